"""Fingerprints cover everything that matters and nothing else; inputs of different origin are not combined."""

import dataclasses
import hashlib
import json
from typing import Any

import pytest

from sae_assets.errors import MismatchError
from sae_assets.storage.provenance import Provenance, digest, shared_identity
from sae_assets_tests.storage.small import provenance

CHANGED: dict[str, Any] = {
    "stage": "unit_stats",
    "dataset": "others",
    "token_kind": "cls",
    "model": "large",
    "chunk": "0001",
    "code_version": "2",
    "config": {"k_stored": 3},
    "inputs": {"examples": "ba" * 32},
    "identity": {"encoder": "dc" * 32},
}
FIELDS = [field.name for field in dataclasses.fields(Provenance)]


def test_every_field_is_tested() -> None:
    """A new field is either covered by the fingerprint, and stands above, or is the producer."""
    assert {*CHANGED, "producer"} == set(FIELDS)


@pytest.mark.parametrize("field", sorted(CHANGED))
def test_fingerprint_changes_with_every_field(field: str) -> None:
    """Any other value of any field but the producer is another fingerprint; so is none, where that is allowed."""
    others = [CHANGED[field]] + ([None] if field in ("token_kind", "model", "chunk") else [])
    others += [{}] if isinstance(CHANGED[field], dict) else []
    fingerprints = {provenance(**{field: other}).fingerprint for other in others}
    assert len(fingerprints) == len(others)
    assert provenance().fingerprint not in fingerprints


def test_fingerprint_ignores_the_producer() -> None:
    """Another version of the package makes the same thing: its code version would say otherwise."""
    assert provenance(producer="99.0").fingerprint == provenance().fingerprint
    assert provenance(producer="99.0") != provenance()


def test_fingerprint_ignores_the_order_of_keys() -> None:
    """Mappings have no order."""
    there = provenance(config={"a": 1, "b": {"c": 2, "d": 3}})
    back = provenance(config={"b": {"d": 3, "c": 2}, "a": 1})
    assert there.fingerprint == back.fingerprint


def test_values_do_not_run_into_each_other() -> None:
    """The same characters divided otherwise over fields and keys are another fingerprint."""
    variants = [
        provenance(stage="ab", dataset="c"),
        provenance(stage="a", dataset="bc"),
        provenance(config={"a": 1}),
        provenance(config={"a": "1"}),
        provenance(config={"a": 1.5}),
        provenance(config={"a": True}),
        provenance(config={"a": None}),
        provenance(config={"a": [1, 2]}),
        provenance(config={"a": [[1], 2]}),
        provenance(inputs={"a": "1"}),
        provenance(identity={"a": "1"}),
    ]
    assert len({variant.fingerprint for variant in variants}) == len(variants)


def test_fingerprint_is_the_same_on_every_machine() -> None:
    """A fixed provenance has a fixed fingerprint: files of one machine are up to date on another."""
    fixed = Provenance("examples", "pictures", None, None, "0000", "1", {"a": [1, 0.5, None]}, {}, {})
    assert fixed.fingerprint == digest(
        {
            "stage": "examples",
            "dataset": "pictures",
            "token_kind": None,
            "model": None,
            "chunk": "0000",
            "code_version": "1",
            "config": {"a": [1, 0.5, None]},
            "inputs": {},
            "identity": {},
        }
    )
    canonical = rb'{"a":"\u00fc","b":[1,null]}'
    assert digest({"b": [1, None], "a": "ü"}) == hashlib.sha256(canonical).hexdigest()


def test_json_there_and_back() -> None:
    """Through JSON nothing changes, tuples apart, and the fingerprint stands in it to be checked."""
    content = json.loads(json.dumps(provenance().to_json()))
    assert content["fingerprint"] == provenance().fingerprint
    assert Provenance.from_json(content) == provenance()


def test_shared_identity_joins_what_agrees() -> None:
    """Identities of all inputs together, also where an input has none of them."""
    parts = [("a", {"encoder": "1"}), ("b", {}), ("c", {"encoder": "1", "unit_mapping": "2"})]
    assert shared_identity(parts) == {"encoder": "1", "unit_mapping": "2"}
    assert shared_identity([]) == {}


def test_mismatch_names_both_inputs() -> None:
    """Two inputs of different origin: both names, what differs, both values, and what to re-run."""
    parts = [
        ("filtered_activations/0000", {"unit_mapping": "a" * 64, "encoder": "e" * 64}),
        ("filtered_activations/0001", {"unit_mapping": "a" * 64, "encoder": "e" * 64}),
        ("thresholds", {"unit_mapping": "b" * 64, "encoder": "e" * 64}),
    ]
    with pytest.raises(MismatchError) as caught:
        shared_identity(parts)
    assert str(caught.value) == (
        "filtered_activations/0000 and thresholds were made with different unit_mapping (aaaaaaaaaaaa and "
        "bbbbbbbbbbbb) and must not be combined. Materialize thresholds again, or filtered_activations/0000 if that "
        "one is older."
    )
