# The Python client: every part of it that programs use.
check() {
  docker pull -q busybox
  [ -d libraries/kubernetes ] || python3 -m pip install -q --target libraries kubernetes==37.0.2 >&2
  NAMESPACE=$namespace PYTHONPATH=$work/libraries python3 "$here/python.py"
}
