#!/usr/bin/env bash
# The Autobahn testsuite, sections 1-10, against `serve` without a listener, `serve -- cat`, `serve` with TLS
# and `connect --echo`, and of sections 12 and 13 (compression) a part, with --original all, against `serve
# --compression shared` and `connect --echo --compress`: each case must behave as tests/clients/autobahn/expected.txt says.
#
#   tests/clients/autobahn/run.sh            with kosoku, which drives Autobahn's own cases and needs Python 3.10
#   tests/clients/autobahn/run.sh --original   with Autobahn's own runner, which needs CPython 2.7 with pip: $PYTHON27,
#                                  or python2.7 in the PATH
#   … -i '1.*' -i 5.3              only these cases
#
# WSGW_BIN names the program [target/debug/wsgw]. Everything lands under target/autobahn/, the reports too.
# Ends with "N passed, N failed".
set -euo pipefail
cd "$(dirname "$0")/../../.."
tools=$PWD/target/autobahn
mkdir -p "$tools"
export WSGW_BIN=${WSGW_BIN:-$PWD/target/debug/wsgw}
[ -x "$WSGW_BIN" ] || { echo "$WSGW_BIN is not there: cargo build makes it" >&2; exit 1; }

[ -x "$tools/py/bin/python" ] || python3 -m venv "$tools/py"
if [ "${1:-}" = --original ]; then
  python27=${PYTHON27:-$(command -v python2.7 || true)}
  "${python27:-false}" -m pip --version >/dev/null 2>&1 || {
    echo "Autobahn's own runner needs CPython 2.7 with pip, and \$PYTHON27 names none (Debian has no" >&2
    echo "package of it any more); without --original Python 3 does" >&2
    exit 1
  }
  export PYTHON27=$python27
  [ -e "$tools/py27/autobahntestsuite" ] || PYTHONWARNINGS=ignore "$python27" -m pip install -q --target "$tools/py27" \
    -r tests/clients/autobahn/requirements-original.txt
else
  "$tools/py/bin/pip" install -q --disable-pip-version-check -r tests/clients/autobahn/requirements.txt
fi
exec "$tools/py/bin/python" tests/clients/autobahn/run.py "$@"
