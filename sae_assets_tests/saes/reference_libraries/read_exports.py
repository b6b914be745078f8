"""Run by the reference environment's interpreter, not by pytest: Delphi and SAEDashboard read exports.

``read_exports.py FOLDER TOKENIZER UNIT …`` reads ``FOLDER/delphi`` and ``FOLDER/units.json`` by the libraries' own
readers and writes ``FOLDER/read.json``. Nothing of this package is imported.
"""

import json
import sys
from pathlib import Path
from unittest.mock import MagicMock

for name in ("faiss", "sentence_transformers", "blobfile"):  # large, for what is not asked for here
    sys.modules[name] = MagicMock(name=name)

import torch  # noqa: E402
from delphi.config import ConstructorConfig, SamplerConfig  # noqa: E402
from delphi.latents.loader import LatentDataset  # noqa: E402
from sae_dashboard.neuronpedia.neuronpedia_dashboard import NeuronpediaDashboardBatch  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402

FOLDER, UNITS = Path(sys.argv[1]), [int(unit) for unit in sys.argv[3:]]
(MODULE,) = [path.name for path in (FOLDER / "delphi").iterdir()]

dataset = LatentDataset(
    str(FOLDER / "delphi"),
    SamplerConfig(n_examples_train=2, n_examples_test=2, n_quantiles=2),
    ConstructorConfig(min_examples=1, n_non_activating=1),
    tokenizer=AutoTokenizer.from_pretrained(sys.argv[2]),
    modules=[MODULE],
    latents={MODULE: torch.tensor(UNITS)},
)
records = {
    record.latent.latent_index: {
        "largest": record.max_activation,
        "frequency": record.per_token_frequency,
        "examples": ["".join(example.str_tokens) for example in record.train],
    }
    for record in dataset
}
entries = {
    data.latent.latent_index: len(data.activation_data.activations) for buffer in dataset.buffers for data in buffer
}
content = json.loads((FOLDER / "units.json").read_text(encoding="utf-8"))
batch = NeuronpediaDashboardBatch(**content)
(FOLDER / "read.json").write_text(
    json.dumps(
        {
            "tokens": list(dataset.tokens.shape),
            "records": records,
            "entries": entries,
            "features": [feature.feature_index for feature in batch.features],
            "same": batch.to_dict() == content,
        }
    )
)
