"""scripts.check_kernels on the kernels as plain JAX, and on results that are wrong."""

from scripts import check_kernels


def test_checking_the_kernels_finds_one_that_is_off(monkeypatch, capsys):
    monkeypatch.setattr(check_kernels, "WEIGHTS", ("int8",))
    monkeypatch.setattr(check_kernels, "EXPERT_LIMITS", {"float32": 1e-5})
    some = {"random": check_kernels.routes(24, 4, 2)["random"]}
    monkeypatch.setattr(check_kernels, "routes", lambda *_: some)
    flags = ["--interpret", "--width=128", "--hidden=64", "--num_experts=4", "--top_k=2"]
    flags += ["--tokens=24", "--context=40", "--vocab_size=256"]
    assert check_kernels.main(["check", *flags]) == 0
    assert "0 faults" in capsys.readouterr().out
    monkeypatch.setattr(check_kernels, "error", lambda found, wanted: float("nan"))
    monkeypatch.setattr(check_kernels, "attention_error", lambda *_: float("nan"))
    monkeypatch.setattr(check_kernels, "grouped_alike", lambda *_: False)
    assert check_kernels.main(["check", *flags]) == 1
    assert "10 faults" in capsys.readouterr().out  # experts, grouping, attention 4, head 4


def test_sizes_without_kernels_are_refused(capsys):
    assert check_kernels.main(["check", "--interpret", "--width=64"]) == 2
    assert capsys.readouterr().err == (
        "error: --width=64: the head's kernels need a multiple of 128\n"
    )
