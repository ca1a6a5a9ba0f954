"""Levels of the processor: detected, and lowered by name."""

import pytest

LEVEL = "from metal_kernels import native, why_missing; print(native.level() if native else why_missing)"


def test_the_best_level_is_in_force_unless_told_otherwise(native, python):
    assert native.supported_levels()[0] == "portable"
    assert python(LEVEL) == native.supported_levels()[-1]
    assert python(LEVEL, GLASSCHAT_CPU="") == native.supported_levels()[-1]


def test_every_level_of_this_processor_can_be_forced(native, python):
    for level in native.supported_levels():
        assert python(LEVEL, GLASSCHAT_CPU=level) == level
        native.set_level(level)
        assert native.level() == level


def test_an_unknown_level_is_refused_in_one_sentence(native, python):
    reason = python(LEVEL, GLASSCHAT_CPU="avx9")
    assert "GLASSCHAT_CPU=avx9 is not a level of this processor, which has portable" in reason
    assert "\n" not in reason
    with pytest.raises(ValueError, match="avx9 is not a level"):
        native.set_level("avx9")


def test_detection_agrees_with_the_system(native):
    try:
        with open("/proc/cpuinfo") as info:
            lines = (line.split(":", 1) for line in info if line.startswith(("flags", "Features")))
            flags = set(next(lines)[1].split())
    except (OSError, StopIteration):
        pytest.skip("the system does not list the processor's features")
    needs = {
        "avx2": {"avx2", "fma", "f16c"},
        "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq"},
        "avx512vnni": {"avx512_vnni"},
        "avx512bf16": {"avx512_bf16"},
        "amx": {"amx_tile", "amx_int8", "amx_bf16"},
        "dotprod": {"asimddp", "asimdhp", "fphp"},
        "i8mm": {"i8mm"},
    }
    for level in native.supported_levels():
        assert needs.get(level, set()) <= flags
    if "avx2" in native.supported_levels():  # the names above are of this architecture
        missing = [level for level in list(needs)[:5] if level not in native.supported_levels()]
        assert not missing or not needs[missing[0]] <= flags or missing[0] == "amx"  # tiles need a permission as well
