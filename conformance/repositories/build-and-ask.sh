# One repository: its file in list/ sets where it is (`source`) and which images it takes (`from`), and says how it is built
# (`build`) and what is asked of the result (`ask`). A container of it is named repositories-test. `run` calls this.
name=$1
here=$(cd "$(dirname "$0")" && pwd)
image=repositories-test/$name
. "$here/images.sh"
. "$here/sources.sh"
. "$here/list/$name.sh"
sources=$(fetch "$source")
cd "$sources"
stand_in $from
clean() { docker ps -aq --filter name=repositories-test | xargs -r docker rm -fv >/dev/null; }
trap clean EXIT
began=$(date +%s)
build
echo "built in $(($(date +%s) - began)) s"
ask
