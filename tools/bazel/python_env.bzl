"""@python_env: the Python environment that the build and the tests use.

Its interpreter is $PYTHON_BIN_PATH, else the python3 on the PATH; normally one
of the virtual environments that tools/dev makes from a lock file. Tests run
under it and import third-party packages from its site-packages, so Bazel
downloads no Python package. What Bazel knows of those packages is
versions.txt, which every //third_party/py target carries as data: a package
that changes its version reruns the tests that use it.
"""

_PROBE = """
import importlib.metadata, json, re, sys, sysconfig
import jax, pybind11
paths = sysconfig.get_paths()
print(json.dumps({
    "python": sys.executable,
    "python_include": paths["include"],
    "pybind11_include": pybind11.get_include(),
    "xla_ffi_include": jax.ffi.include_dir(),
    "site_packages": sorted({paths["purelib"], paths["platlib"]}),
    "versions": sorted({
        re.sub("[-_.]+", "-", d.metadata["Name"]).lower() + "==" + d.version
        for d in importlib.metadata.distributions()
    }),
}))
"""

_BUILD = """\
load("@rules_cc//cc:cc_library.bzl", "cc_library")
load("@rules_python//python:py_library.bzl", "py_library")
load("@rules_python//python:py_runtime.bzl", "py_runtime")
load("@rules_python//python:py_runtime_pair.bzl", "py_runtime_pair")

package(default_visibility = ["//visibility:public"])

py_runtime(
    name = "runtime",
    interpreter_path = "{python}",
    python_version = "PY3",
    stub_shebang = "#!{python}",
)

py_runtime_pair(
    name = "runtime_pair",
    py3_runtime = ":runtime",
)

toolchain(
    name = "toolchain",
    toolchain = ":runtime_pair",
    toolchain_type = "@rules_python//python:toolchain_type",
)

py_library(
    name = "site_packages",
    srcs = ["python_env_site.py"],
    data = ["versions.txt"],
    imports = ["."],
)

cc_library(
    name = "python_headers",
    hdrs = glob(["python/**/*.h"]),
    includes = ["python"],
)

cc_library(
    name = "pybind11",
    hdrs = glob(["pybind11/pybind11/**/*.h"]),
    includes = ["pybind11"],
    deps = [":python_headers"],
)

cc_library(
    name = "xla_ffi",
    hdrs = glob(["xla_ffi/xla/ffi/api/*.h"]),
    includes = ["xla_ffi"],
)
"""

# Some versions of rules_python start a test in a virtual environment of their
# own, whose site-packages is empty; tools/bazel/pytest_main.py adds these.
_SITE = '''\
"""Where the third-party packages of this environment are."""

SITE_PACKAGES = {site_packages}
'''

def _python_env_impl(rctx):
    python = rctx.os.environ.get("PYTHON_BIN_PATH") or rctx.which("python3")
    if not python:
        fail("there is no python3 on the PATH; set PYTHON_BIN_PATH")
    probe = rctx.execute(
        [python, "-c", _PROBE],
        environment = {"JAX_PLATFORMS": "cpu"},
    )
    if probe.return_code:
        fail("{} lacks what the build needs; `tools/dev test` makes an environment that has it, or name one in PYTHON_BIN_PATH:\n{}".format(python, probe.stderr))
    env = json.decode(probe.stdout.strip())
    if not rctx.path(env["python_include"] + "/Python.h").exists:
        fail("{} has no Python.h for {}; install Python's development headers".format(env["python_include"], python))

    rctx.symlink(env["python_include"], "python")
    rctx.symlink(env["pybind11_include"], "pybind11")
    rctx.symlink(env["xla_ffi_include"], "xla_ffi")
    rctx.file("versions.txt", "\n".join([env["python"]] + env["versions"]) + "\n")
    rctx.file("python_env_site.py", _SITE.format(site_packages = env["site_packages"]))
    rctx.file("BUILD.bazel", _BUILD.format(python = env["python"]))

    # A package that comes, goes or changes its version changes the listing.
    for directory in env["site_packages"]:
        rctx.path(directory).readdir(watch = "yes")

python_env = repository_rule(
    implementation = _python_env_impl,
    doc = "Makes a repository of the Python environment in use.",
    configure = True,
    environ = [
        "PATH",
        "PYTHON_BIN_PATH",
    ],
    local = True,
)

def _not_imported_impl(_rctx):
    fail("flaxlayer takes its dependencies from the workspace that imports it: set the flags @flaxlayer//third_party/... to targets there, as docs/monorepo.md says; one that is needed is not set")

_not_imported = repository_rule(
    implementation = _not_imported_impl,
    doc = "Stands in for the environment in a workspace that imports this one.",
)

def _python_env_extension_impl(mctx):
    # An importer's own environment and this one would be mixed: packages from
    # one, the headers and the interpreter from the other.
    rule = python_env if mctx.modules[0].is_root else _not_imported
    rule(name = "python_env")

python_env_extension = module_extension(
    implementation = _python_env_extension_impl,
    doc = "The python_env rule for MODULE.bazel.",
)
