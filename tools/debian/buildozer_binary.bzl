"""Stands in for buildozer, which only `bazel mod tidy` runs."""

def _empty_impl(rctx):
    rctx.file("BUILD", "")

_empty = repository_rule(
    implementation = _empty_impl,
    doc = "A repository with nothing in it.",
)

buildozer_binary = module_extension(
    implementation = lambda mctx: _empty(name = "buildozer_binary"),
    doc = "Declares the repository that Bazel's own module expects.",
)
