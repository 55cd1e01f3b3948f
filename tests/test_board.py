"""Profiles of boards as the tools write them, and what bits cost by a target's data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers_graphs import given as graph
from random_graphs import Case, make_case

from hybridq import targets
from hybridq.errors import ConfigError
from hybridq.quant.dtypes import Precision
from hybridq.search.allocation.profiles import board_times, read_profile

# the form of RKNN-Toolkit2's table; an operator that absorbed others names the first
RKNN = """NPU Current Frequency List:
    - 1000000000
----------------------------------------------------------------------------------------------
                                 Network Layer Information Table
----------------------------------------------------------------------------------------------
ID   OpType           DataType Target InputShape                   OutputShape            Cycles(DDR/NPU/Total)    \
Time(us)     MacUsage(%)          WorkLoad(0/1/2)      RW(KB)       FullName
----------------------------------------------------------------------------------------------
1    InputOperator    UINT8    CPU    \\                            (1,8,8,8)              0/0/0                    \
4            \\                    0.0%/0.0%/0.0%       0            InputOperator:x
2    ConvExSwish      INT8     NPU    (1,8,8,8),(8,8,3,3),(8)      (1,8,8,8)              311802/2073600/2073600   \
3973         4.35/4.35/4.35       100.0%/0.0%/0.0%     3602         Conv:{conv}
3    Pad              INT8     NPU    (1,8,8,8),(8)                (1,8,8,8)              0/0/0                    \
307                               100.0%/0.0%/0.0%     1024
4    Sigmoid          INT8     NPU    (1,8,8,8)                    (1,8,8,8)              467541/0/467541          \
573          \\                    33.3%/33.3%/33.3%    7200         Sigmoid:{sigmoid}
----------------------------------------------------------------------------------------------
Total Operator Elapsed Per Frame Time(us): 4857
"""


def case() -> Case:
    random = np.random.default_rng(0)
    weights = {"w": random.normal(size=(8, 8, 3, 3)).astype(np.float32), "b": np.zeros(8, np.float32)}
    nodes = [("Conv", "x w b", "c", {"pads": [1] * 4}), ("Sigmoid", "c", "y")]
    return make_case(graph(nodes, weights, ["y"]), {"x": random.normal(size=(4, 8, 8, 8)).astype(np.float32)})


def nodes_of(made: Case) -> dict[str, str]:
    return {x.op: x.node for x in made.model.layers}


def test_the_table_of_rknn(tmp_path: Path) -> None:
    made = case()
    path = tmp_path / "perf.txt"
    names = nodes_of(made)
    path.write_text(RKNN.replace("\\\n", "").format(conv=names["Conv"], sigmoid=names["Sigmoid"]))
    assert read_profile(path, made.model) == {"c": 3973.0, "y": 573.0}


def test_a_profile_of_trtexec_whose_layers_are_fused(tmp_path: Path) -> None:
    made = case()
    names = nodes_of(made)
    rows = [
        {"count": 41400},
        {"name": f"{names['Conv']} + {names['Sigmoid']}", "timeMs": 1160.78, "averageMs": 0.028, "percentage": 100},
    ]
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(rows))
    assert read_profile(path, made.model) == {"c": pytest.approx(14.0), "y": pytest.approx(14.0)}


# the form of snpe-diagview (SNPE 2.37); a DSP counts cycles, and converters change what is no letter of a name
SNPE = """Software library version: 2.37.0.250724175447_124859
------------------------------------------------------------

SNPE Execute Statistics (Averaged):
----------------------------------------
  Total Inference Time: 1328 us
  Snpe Accelerator Time: 250 us
  Accelerator Time: {accelerator} us

  Per-Layer Execution Times:
  ------------------------------
    0: Input OpId_2 (cycles) : {cycles} cycles : DSP
    1: _{conv}:OpId_18 (cycles) : 3000 cycles : DSP
    2: {sigmoid} : 70 us : CPU

"""


def test_what_snpe_diagview_prints(tmp_path: Path) -> None:
    made = case()
    path = tmp_path / "diagview.txt"
    names = {k: v.replace("/", "_") for k, v in nodes_of(made).items()}
    path.write_text(SNPE.format(conv=names["Conv"], sigmoid=names["Sigmoid"], accelerator=80, cycles=1000))
    assert read_profile(path, made.model) == {"c": pytest.approx(60.0), "y": 70.0}


def test_the_csv_of_snpe_diagview_has_a_row_a_layer_and_run(tmp_path: Path) -> None:
    made = case()
    names = nodes_of(made)
    rows = [("Total Inference Time", "", "", 1328), ("", "", "", 5)]
    rows += [
        ("EXECUTE", name, i, took) for took in (40, 60) for i, name in enumerate((names["Conv"], names["Sigmoid"]))
    ]
    text = "Message,Layer Name,Layer Id,Time,Unit of Measurement\n"
    path = tmp_path / "profile.csv"
    path.write_text(text + "".join(f"{m},{n},{i},{took},us\n" for m, n, i, took in rows))
    assert read_profile(path, made.model) == {"c": 50.0, "y": 50.0}


@pytest.mark.parametrize("text", ["", "[]", "no json", '[{"name": "other", "averageMs": 1}]'])
def test_what_is_no_profile_of_this_model_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"JSON|no layer|no row"):
        read_profile(path, case().model)


def test_more_bits_take_as_many_times_as_the_target_says() -> None:
    made, target = case(), targets.load("rknn2")
    measured = {"c": 3000.0, "y": 1000.0}
    times = board_times(made.model, target, Precision.INT16, measured)
    assert times is not None
    factors = target.costs[Precision.INT16]
    assert times.added(["c"]) == pytest.approx((factors["products"] - 1) * 3000)
    assert times.extra("y") == pytest.approx((factors["others"] - 1) / 4)
    assert times.percent(["c"]) == {"c": 75.0}
    assert times.milliseconds(["c"]) == {"c": 3.0}


@pytest.mark.parametrize("name", ["esp-dl", "rknn2", "tensorrt"])
def test_costs_are_told_for_all_that_a_search_may_raise_to(name: str) -> None:
    target = targets.load(name)
    higher = {p for p in target.search if p.bits > 8}
    assert higher <= set(target.costs) <= {p for p in target.precisions if p.bits > 8}
    assert all(min(factors.values()) >= 1 for factors in target.costs.values())


def test_without_a_profile_shares_follow_the_multiply_accumulates() -> None:
    made = case()
    times = board_times(made.model, targets.load("rknn2"), Precision.FLOAT16, {})
    assert times is not None
    assert sum(times.extra(x.name) for x in made.model.layers) == pytest.approx(1.0)
    assert times.milliseconds(["c"]) == {}
    assert board_times(made.model, targets.load("vitis"), Precision.INT16, {}) is None
