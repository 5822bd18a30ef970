#!/bin/sh
# Keeps one process of the platform running: starts it again when it ends, at once the first time and with a growing pause when it keeps ending.
# Usage: supervise.sh NAME PROCESSES_DIR LOG COMMAND...
# Stops when it gets SIGTERM: passes it on and waits. A shell, because it costs a megabyte and cannot leak.
# With TIPHYS_HEIR another supervisor of NAME still runs: the process takes its place by itself (heir.ts), and then says so in the files. Until then nothing is started again.
# Whatever the umask of the shell that ran `up`: containers' directories get the modes that they are meant to have, and no more.
umask 022
# When memory runs out Pods go before the platform, the most protected of them too (-997); where the host does not allow it, nothing is said.
{ echo -999 > "/proc/$$/oom_score_adj"; } 2>/dev/null
name=$1; dir=$2; log=$3; shift 3
heir=${TIPHYS_HEIR:-}
owner() { cat "$dir/$name.supervisor" 2>/dev/null; }
# What another supervisor has written by now is not touched.
leave() { [ "$(owner)" = $$ ] && rm -f "$dir/$name.supervisor" "$dir/$name.pid"; exit "$1"; }
[ -n "$heir" ] || echo $$ > "$dir/$name.supervisor"
pause=0; child=
trap 'trap "" TERM; [ -n "$child" ] && kill -TERM "$child" 2>/dev/null; wait "$child" 2>/dev/null; leave 0' TERM
trap '' HUP INT
while :; do
  started=$(date +%s)
  "$@" >> "$log" 2>&1 </dev/null &
  child=$!
  [ -n "$heir" ] || echo "$child" > "$dir/$name.pid"
  wait "$child"; code=$?
  # 64: the process says that starting it again is of no use.
  [ "$code" = 64 ] && leave 64
  if [ -n "$heir" ]; then
    now=$(owner)
    # It ended before it took the place of another one, which goes on.
    if [ -n "$now" ] && [ "$now" != $$ ]; then exit "$code"; fi
    echo $$ > "$dir/$name.supervisor"
    heir=; unset TIPHYS_HEIR
  fi
  ran=$(( $(date +%s) - started ))
  echo "{\"level\":\"error\",\"part\":\"supervisor\",\"msg\":\"$name ended with $code after $ran s\"}" >> "$log"
  if [ "$ran" -ge 10 ]; then pause=0; elif [ "$pause" = 0 ]; then pause=0.2; elif [ "$pause" = 0.2 ]; then pause=1; else pause=5; fi
  # Waited for as a child, so that SIGTERM interrupts it.
  sleep "$pause" & wait $!
done
