# The other scripts source this file. It goes to the root of the repository, makes .venv from
# requirements.txt (again only when that file has changed), and activates it.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PYTHONPATH PYTHONHOME

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "error: Python 3.11 or newer is needed; name one with PYTHON=/path/to/python3" >&2
  exit 1
fi
if ! cmp -s requirements.txt .venv/installed.txt; then
  echo "Installing requirements.txt into .venv (once; it takes about a minute) ..." >&2
  "$python" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
  cp requirements.txt .venv/installed.txt
fi
source .venv/bin/activate
# glibc 2.35 and newer puts temporary arrays into huge pages; older versions ignore this. Without
# huge pages, page faults took 40 % of a training step on the CPU.
export GLIBC_TUNABLES=${GLIBC_TUNABLES:+$GLIBC_TUNABLES:}glibc.malloc.hugetlb=1
