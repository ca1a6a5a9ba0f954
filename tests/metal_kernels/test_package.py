"""Importing the package: with the extension, and with each kind of extension that can't be used."""

import shutil
import sysconfig

import mlx.core as mx
import pytest

from tests.metal_kernels.conftest import PACKAGE

REPORT = "import metal_kernels as m; print(m.native is not None, m.why_missing, sep='|')"


@pytest.fixture
def stranger(tmp_path, python):
    """Imports the package with a given file in the place of the extension."""
    copy = tmp_path / "metal_kernels"
    copy.mkdir()
    shutil.copy(PACKAGE / "__init__.py", copy)

    def report(name=None, content="", **environment):
        if name:
            (copy / name).write_text(content)
        usable, reason = python(REPORT, PYTHONPATH=str(tmp_path), **environment).split("|")
        assert usable == "False"
        assert reason.count("\n") == 0
        return reason

    return report


def test_arrays_pass_in_both_directions(native):
    assert native.smoke(mx.array([1.0, 2.0])).tolist() == [2.0, 3.0]
    with pytest.raises(TypeError):
        native.smoke("no array")


def test_an_extension_that_is_not_built_is_a_reason_with_advice(stranger):
    assert "not built" in (reason := stranger())
    assert "make native" in reason


def test_an_extension_that_can_not_be_loaded_is_a_reason(stranger):
    assert "can't be loaded" in stranger("_native" + sysconfig.get_config_var("EXT_SUFFIX"), "not a library")


def test_an_extension_for_another_mlx_is_a_reason(stranger):
    assert "MLX 0.1.0, not 0.2.0" in stranger("_native.py", "built_for, runs_on = '0.1.0', '0.2.0'")


def test_an_extension_that_takes_mlx_arrays_for_strangers_is_a_reason(stranger):
    reason = stranger("_native.py", "built_for = runs_on = '1'\ndef smoke(x): raise TypeError('incompatible function')")
    assert "nanobind" in reason


def test_a_machine_on_which_mlx_can_not_compute_is_a_reason(stranger):
    said = "No Metal device available."
    reason = stranger("_native.py", f"built_for = runs_on = '1'\ndef smoke(x): raise RuntimeError('{said}')")
    assert reason == f"MLX can't compute here: {said}"


def test_an_extension_may_be_built_elsewhere(native, stranger, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "_native.py").write_text("built_for, runs_on = 'elsewhere', 'here'")
    assert "MLX elsewhere" in stranger(GLASSCHAT_NATIVE=str(elsewhere))
