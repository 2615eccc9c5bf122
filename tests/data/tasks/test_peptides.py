"""Peptides: what is drawn, which answers meet the demands, and which peptides are held out."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from data.tasks.amino_acids import (
    FREQUENCIES,
    HYDROPATHY,
    LETTERS,
    MOTIFS,
    Peptide,
    demands_met,
    expression,
    variety,
)
from data.tasks.peptides import PeptidesTask, elements, is_held_out
from data.tasks.task import Replay, TaskError
from data.text.parts import Part

# 12 residues: K and R against E, so +1; A, L, V, I, M and F are hydrophobic.
ITEM = Peptide("ALKGNVTEIRMF", "A---N-T-I---", 1, 6, "PS00001", 4)


def test_tables():
    assert len(LETTERS) == 20 and set(LETTERS) == set("ACDEFGHIKLMNPQRSTVWY") == set(HYDROPATHY)
    assert sum(FREQUENCIES.values()) == pytest.approx(100, abs=0.1)
    assert {r for r in LETTERS if HYDROPATHY[r] > 0} == set("ACFILMV")


@pytest.mark.parametrize(
    ("pattern", "regex", "found", "other"),
    [
        ("N-{P}-[ST]-{P}", "N[^P][ST][^P]", "NATG", ("NPTG", "NATP", "NAAG", "NAT")),
        ("[RK](2)-x-[ST]", "[RK]{2}.[ST]", "RKAS", ("RAAS", "RKS")),
        ("[ST]-x(2)-[DE]", "[ST].{2}[DE]", "SAAE", ("SAE", "SAAK")),
        ("C-{CPWHF}-{CPWR}-C-H-{CFYW}", "C[^CPWHF][^CPWR]CH[^CFYW]", "CAACHA", ("CAACHC",)),
    ],
)
def test_patterns(pattern, regex, found, other):
    """The generator and the checker read a pattern with different code."""
    places = elements(pattern)
    assert expression(pattern).pattern == regex

    def fits(text):
        letters = [LETTERS.index(r) for r in text]
        return len(text) == len(places) and all(p[r] for p, r in zip(places, letters, strict=True))

    for text, expected in [(found, True), *((text, False) for text in other)]:
        assert bool(expression(pattern).fullmatch(text)) == fits(text) == expected


def test_a_peptide_meets_the_demands_that_are_drawn_from_it():
    task = PeptidesTask()
    splits, motifs = task.open(3, None), set()
    for item in [*(splits.train[i] for i in range(300)), *(splits.test[i] for i in range(100))]:
        assert all(demands_met(item, item.residues).values())
        assert 20 <= len(item.residues) <= 40
        share = 1 - item.given.count("-") / len(item.given)
        assert 0.27 < share < 0.63
        motifs.add(item.motif)
        # One place at least has the motif with a kept residue in it.
        rule = expression(MOTIFS[item.motif])
        starts = [m for m in range(len(item.residues)) if rule.match(item.residues, m)]
        assert any(set(item.given[m : rule.match(item.residues, m).end()]) - {"-"} for m in starts)
    assert motifs == set(MOTIFS)
    assert splits.train[7] == splits.train[7] != splits.train[8]


def test_residues_have_the_frequencies_of_swiss_prot():
    """Motifs shift them a little, so the tolerance is a fifth, and more for rare residues."""
    train = PeptidesTask(lengths="40", motifs="PS00005").open(0, None).train
    text = "".join(train[i].residues for i in range(1500))
    for residue, percent in FREQUENCIES.items():
        if residue not in "STRK":
            assert 100 * text.count(residue) / len(text) == pytest.approx(percent, rel=0.2)


def test_no_demands_are_in_both_parts():
    task = PeptidesTask(lengths="20-22")
    splits = task.open(1, None)
    train, test = ([part[i] for i in range(800)] for part in splits)

    def demands(items):
        return {(len(p.residues), p.charge, p.hydrophobic) for p in items}

    assert len(demands(test)) > 10
    every = [is_held_out(20, charge, count) for charge in range(-5, 6) for count in range(20)]
    assert 0.05 < np.mean(every) < 0.15
    assert not demands(train) & demands(test)
    assert not {task.text(p)[0] for p in train} & {task.text(p)[0] for p in test}
    assert not {p.residues for p in train} & {p.residues for p in test}


def test_prompt_and_parts():
    task = PeptidesTask(lengths="12")
    prompt, answer = task.text(ITEM)
    assert prompt == (
        "Write a peptide of 12, hydrophobic 06, charge +1, motif N-{P}-[ST]-{P} PS00001"
    )
    assert "charge -3," in task.text(ITEM._replace(charge=-3))[0]
    # A and V and L are hydrophobic, K is +1 and E is -1; then I, M and F, and R.
    # The motif NVTE stands in the first line.
    assert answer == "3+0:01ALKGNVTE\n3+1IRMF"
    parts = task.parts(ITEM)
    assert "".join(part.text for part in parts) == answer
    assert parts[:3] == [Part("3+0:01", "kept"), Part("A", "kept"), Part("L", "open")]
    assert parts[9] == Part("\n3+1", "kept")
    residues = [part for part in parts if part.text in LETTERS]
    assert [part.kind == "kept" for part in residues] == [shown != "-" for shown in ITEM.given]
    assert task.shown(answer) == ITEM.residues


def test_the_budgets_of_all_lines_add_up_to_the_demands():
    task = PeptidesTask()
    for i in range(50):
        item = task.open(0, None).train[i]
        text = task.text(item)[1]
        [number] = re.findall(":(..)", text)
        assert item.motif.endswith(number)
        planted = next(line for line in text.split("\n") if ":" in line)
        assert expression(MOTIFS[item.motif]).search(planted.split(f":{number}")[1])
        lines = text.replace(f":{number}", "").split("\n")
        assert sum(int(line[0]) for line in lines) == item.hydrophobic
        assert sum(int(line[1:3]) for line in lines) == item.charge
        assert "".join(line[3:] for line in lines) == item.residues


@pytest.mark.parametrize(
    ("answer", "missed"),
    [
        ("ALKGNVTEIRMF", ()),
        (" ALKGNVTEIRMF\n", ()),
        ("3+0ALKGNVTE\n3+1IRMF", ()),
        ("5-1ALKGNVTE\n3+1IRMF", ()),  # budgets are no demands
        ("3+0:01ALKGNVTE\n3+1IRMF", ()),
        ("3+0:1ALKGNVTE\n3+1IRMF", ("length", "charge", "hydrophobic", "motif", "kept")),
        ("3+ALKGNVTE\n3+1IRMF", ("length", "charge", "hydrophobic", "motif", "kept")),
        ("AVKGNCTDIRLM", ()),  # another peptide that meets all
        ("ALKGNVTEIRM", ("length", "hydrophobic")),
        ("ALKGNVTEIRMFG", ("length",)),
        ("ALKGNVTEIHMF", ("charge",)),
        ("ALKGNVTHIRMF", ("charge",)),
        ("ALKGNVTEIRMW", ("hydrophobic",)),
        ("ALKGNPTEIRMF", ("motif", "hydrophobic")),
        ("ALMGNVTPIRMG", ("motif",)),
        ("GLKANVTEIRMF", ("kept",)),
        ("ALKGNVTEIRMFALKG", ("length", "charge", "hydrophobic")),
        ("ALKGNVTEIRMX", ("length", "charge", "hydrophobic", "motif", "kept")),
        ("alkgnvteirmf", ("length", "charge", "hydrophobic", "motif", "kept")),
        ("ALKGNV-TEIRMF", ("length", "charge", "hydrophobic", "motif", "kept")),
        ("", ("length", "charge", "hydrophobic", "motif", "kept")),
    ],
)
def test_scores(answer, missed):
    task = PeptidesTask(lengths="12")
    found = task.score(ITEM, answer)
    assert list(found) == list(task.measures)
    met = demands_met(ITEM, answer)
    assert {name for name, good in met.items() if not good} == set(missed)
    assert found["exact"] == (not missed) and found["parts"] == pytest.approx(1 - len(missed) / 5)
    assert found["valid"] == (len(missed) < 5)


def test_bins_and_columns():
    task = PeptidesTask()
    items = [task.open(0, None).test[i] for i in range(200)]
    bins = task.bins(items)
    for parts in bins.values():
        np.testing.assert_array_equal(sum(np.asarray(rows, int) for rows in parts.values()), 1)
    lengths = np.array([len(item.given) for item in items])
    np.testing.assert_array_equal(bins["length"]["20 to 26 residues"], lengths <= 26)
    assert list(task.columns(ITEM).values())[:2] == [ITEM.residues, ITEM.given]


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"lengths": "40-20"}, "lengths=40-20: give a number, or a range"),
        ({"lengths": "x"}, "lengths=x: give a number"),
        ({"lengths": "8-30"}, "give 9 or more"),
        ({"kept": "30-101"}, "at most 100 percent"),
        ({"kept": "-5"}, "kept=-5: give a number"),
        ({"motifs": "PS00001,PS99999"}, "'PS99999' is not one of PS00001, "),
    ],
)
def test_settings_that_cannot_be_used(settings, error):
    with pytest.raises(TaskError, match=error):
        PeptidesTask(**settings)


def test_one_residue_at_least_is_open_and_one_is_kept():
    for kept, count in (("100", 1), ("0", 19)):
        train = PeptidesTask(lengths="20", kept=kept).open(0, None).train
        assert all(train[i].given.count("-") == count for i in range(20))


def test_variety():
    found = variety(["AAAA", "AAAC", "AAAA", "AA"], ["AAAC"])
    assert found.distinct == 3 / 4 and found.new == 3 / 4
    # Pairs: 3/4, 1, 1/2, 3/4, 1/2, 1/2.
    assert found.identity == pytest.approx(4 / 6)


def test_picture():
    task = PeptidesTask(lengths="12")
    expected = [*"3+0ALKGNVTE", "\n", *"3+1IRMF", "<turn|>"]
    pieces = [["?" if i == 4 else piece for i, piece in enumerate(expected)], expected]
    replay = Replay(pieces, np.ones((2, 20), bool), np.zeros((2, 20)), expected, 48)
    assert Image.open(io.BytesIO(task.picture(ITEM, replay))).format == "PNG"
    merged = [*expected[:3], "AL", *expected[5:]]
    assert task.picture(ITEM, replay._replace(expected=merged)) is None
    short = replay._replace(accepted=replay.accepted[:, :18])
    assert task.picture(ITEM, short) is None
