# The Pythons of this machine, for scripts that serve several of them.
#
#   find_python VERSION   print the path of an interpreter, such as for 3.12:
#                         on the PATH, else one of pyenv's; false without one
#
# shellcheck shell=bash

find_python() { # VERSION
  local python
  for python in python"$1" \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python"$1"; do
    # Asked for its path: pyenv has commands for versions that are not in use.
    if python=$("$python" -c 'import sys; print(sys.executable)' 2>/dev/null)
    then
      echo "$python"
      return
    fi
  done
  return 1
}
