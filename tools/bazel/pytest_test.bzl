"""Test files that pytest runs."""

load("@rules_python//python:py_test.bzl", "py_test")

def pytest_test(name, srcs, deps = [], data = [], env = {}, timeout = "long", **kwargs):
    """Runs test files in one process; every case is reported on its own.

    Importing Keras, Flax and Orbax takes longer than most files of tests, and
    what one of them has compiled others need not. So a target has all the files
    of a folder, or as many as are done in a minute or two.

    Args:
      name: the target's name; by custom that of the folder.
      srcs: the test files.
      deps: what they import; pytest is added.
      data: the files they read; pytest's settings are added.
      env: more environment variables.
      timeout: how long it may take, as py_test has it.
      **kwargs: passed on to py_test.
    """
    settings = "//:pyproject.toml"
    main = "//tools/bazel:pytest_main.py"
    py_test(
        name = name,
        srcs = srcs + [main],
        args = [
            "-c $(rootpath {})".format(settings),
        ] + ["$(rootpath {})".format(src) for src in srcs],
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
        timeout = timeout,
        deps = deps + ["//third_party/py/pytest"],
        **kwargs
    )
