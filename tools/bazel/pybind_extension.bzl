"""Builds a Python extension module with pybind11."""

load("@rules_cc//cc:cc_binary.bzl", "cc_binary")

def pybind_extension(name, srcs, deps = [], **kwargs):
    """Builds <name>.so, which Python imports as <name>.

    Only PyInit_* is exported, whatever the libraries in it declare: XLA,
    protobuf or another pybind11 in the same process can neither see nor
    replace the symbols of this one.

    Args:
      name: the module's name.
      srcs: the file with PYBIND11_MODULE, and others if need be.
      deps: the C++ libraries in it; pybind11 is added.
      **kwargs: passed on to cc_binary.
    """
    exports = "//tools/bazel:pyinit_only.lds"
    cc_binary(
        name = name + ".so",
        srcs = srcs,
        additional_linker_inputs = [exports],
        # pybind11 needs exceptions; its types must not be visible outside.
        copts = [
            "-fexceptions",
            "-fvisibility=hidden",
        ],
        linkopts = ["-Wl,--version-script=$(location {})".format(exports)] + select({
            "//tools/bazel:debug": [],
            "//conditions:default": ["-Wl,--strip-all"],
        }),
        linkshared = True,
        target_compatible_with = ["@platforms//os:linux"],
        deps = deps + ["//third_party/pybind11"],
        **kwargs
    )
