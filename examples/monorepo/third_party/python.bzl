"""@monorepo_python: this workspace's interpreter, packages and headers.

A monorepo has these in its tree, or from a package index by rules_python. Here
they come from the environment of $PYTHON_BIN_PATH, else of the python3 on the
PATH, but its interpreter is not used: the one that it was made from is, which
has no packages. They are in the runfiles of what depends on them.
"""

_PROBE = """
import json, sys, sysconfig
import jax, pybind11
paths = sysconfig.get_paths()
print(json.dumps({
    "python": sys._base_executable,
    "packages": paths["purelib"],
    "python_headers": paths["include"],
    "pybind11_headers": pybind11.get_include(),
    "xla_ffi_headers": jax.ffi.include_dir(),
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

# Folders, one for each package, not their thousands of files.
py_library(
    name = "packages",
    data = glob(["packages/*"], exclude_directories = 0),
    imports = ["packages"],
)

[
    cc_library(
        name = name,
        hdrs = glob([name + "/**/*.h"]),
        includes = [name],
    )
    for name in ["pybind11_headers", "python_headers", "xla_ffi_headers"]
]
"""

def _python_repository_impl(rctx):
    python = rctx.os.environ.get("PYTHON_BIN_PATH") or rctx.which("python3")
    probe = rctx.execute(
        [python, "-c", _PROBE],
        environment = {"JAX_PLATFORMS": "cpu"},
    )
    if probe.return_code:
        fail("{} lacks what this workspace needs, set PYTHON_BIN_PATH to one that has it:\n{}".format(python, probe.stderr))
    env = json.decode(probe.stdout.strip())
    for name in env:
        if name != "python":
            rctx.symlink(env[name], name)
    rctx.file("BUILD.bazel", _BUILD.format(python = env["python"]))

python_repository = repository_rule(
    implementation = _python_repository_impl,
    doc = "Makes a repository of a Python environment.",
    configure = True,
    environ = [
        "PATH",
        "PYTHON_BIN_PATH",
    ],
    local = True,
)

python_extension = module_extension(
    implementation = lambda mctx: python_repository(name = "monorepo_python"),
    doc = "The python_repository rule for MODULE.bazel.",
)
