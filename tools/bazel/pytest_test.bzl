"""A test file that pytest runs."""

load("@rules_python//python:py_test.bzl", "py_test")

def pytest_test(name, srcs, deps = [], data = [], env = {}, **kwargs):
    """Runs one file under pytest; every case is reported on its own.

    Args:
      name: the target's name; by custom the file's name without its ending.
      srcs: the one test file.
      deps: what it imports; pytest is added.
      data: the files it reads; pytest's settings are added.
      env: more environment variables.
      **kwargs: passed on to py_test.
    """
    if len(srcs) != 1:
        fail("{} must have one file, to be collected by pytest".format(name))
    settings = "//:pyproject.toml"
    main = "//tools/bazel:pytest_main.py"
    py_test(
        name = name,
        srcs = srcs + [main],
        args = [
            "-c $(rootpath {})".format(settings),
            "$(rootpath {})".format(srcs[0]),
        ],
        data = data + [settings],
        env = {
            # A missing extension must fail tests here, not skip them.
            "FLAXLAYER_REQUIRE_NATIVE": "1",
            "JAX_PLATFORMS": "cpu",
            "KERAS_BACKEND": "jax",
        } | env,
        # Packages have their __init__.py files; none are made up.
        legacy_create_init = 0,
        main = main,
        deps = deps + ["//third_party/py/pytest"],
        **kwargs
    )
