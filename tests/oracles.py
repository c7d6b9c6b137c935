"""Slow second implementations, one number at a time in float64, and the golden file made by them.

Nothing here imports the code under test. ``python tests/oracles.py`` writes
``tests/golden/poolings.json``: random weights and inputs of our own, and what the formulas give.
"""

import json
import math
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).with_name("golden") / "poolings.json"


def normalised(vector):
    norm = math.sqrt(sum(x * x for x in vector))
    return [x / norm for x in vector] if norm > 0 else [0.0 for _ in vector]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def cosine(a, b):
    return dot(normalised(a), normalised(b))


def linear(vector, weight, bias):
    return [dot(row, vector) + b for row, b in zip(weight, bias, strict=True)]


def layer_norm(vector, weight, bias, eps=1e-5):
    mean = sum(vector) / len(vector)
    variance = sum((x - mean) ** 2 for x in vector) / len(vector)
    scaled = [(x - mean) / math.sqrt(variance + eps) for x in vector]
    return [w * x + b for x, w, b in zip(scaled, weight, bias, strict=True)]


def softmax(logits):
    top = max(logits)
    exps = [math.exp(x - top) for x in logits]
    return [x / sum(exps) for x in exps]


def weighted_sum(weights, vectors):
    return [
        sum(w * v[d] for w, v in zip(weights, vectors, strict=True)) for d in range(len(vectors[0]))
    ]


def existing(video, mask):
    return [list(frame) for frame, there in zip(video, mask, strict=True) if there]


def mean_pool(text, frames):
    return weighted_sum([1 / len(frames)] * len(frames), [normalised(f) for f in frames])


def top_k(text, frames, k):
    nearest = sorted(frames, key=lambda f: -cosine(text, f))[:k]
    return weighted_sum([1.0] * len(nearest), [normalised(f) for f in nearest])


def attention_pool(text, frames, temperature):
    weights = softmax([cosine(text, f) / temperature for f in frames])
    return weighted_sum(weights, [normalised(f) for f in frames])


def xpool_attention(text, frames, state, heads, temperature=1.0):
    """Weights over frames, one list per head."""

    def projected(vector, name):
        normed = layer_norm(vector, state["layer_norm1.weight"], state["layer_norm1.bias"])
        name = f"cross_attn.{name}_proj"
        return linear(normed, state[f"{name}.weight"], state[f"{name}.bias"])

    width = len(text) // heads
    query = projected(text, "q")
    keys = [projected(f, "k") for f in frames]
    weights = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        logits = [dot(query[part], key[part]) / (math.sqrt(width) * temperature) for key in keys]
        weights.append(softmax(logits))
    return weights


def xpool(text, frames, state, heads, temperature=1.0):
    width = len(text) // heads
    values = []
    for frame in frames:
        normed = layer_norm(frame, state["layer_norm1.weight"], state["layer_norm1.bias"])
        weight, bias = state["cross_attn.v_proj.weight"], state["cross_attn.v_proj.bias"]
        values.append(linear(normed, weight, bias))
    attended = []
    for head, weights in enumerate(xpool_attention(text, frames, state, heads, temperature)):
        part = slice(head * width, (head + 1) * width)
        attended += weighted_sum(weights, [value[part] for value in values])
    out = linear(attended, state["cross_attn.out_proj.weight"], state["cross_attn.out_proj.bias"])
    out = layer_norm(out, state["layer_norm2.weight"], state["layer_norm2.bias"])
    branch = linear(out, state["linear_proj.weight"], state["linear_proj.bias"])
    out = [a + b for a, b in zip(out, branch, strict=True)]
    return layer_norm(out, state["layer_norm3.weight"], state["layer_norm3.bias"])


def gelu(x):
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def quick_gelu(x):
    return x / (1 + math.exp(-1.702 * x))


def with_positions(tokens, position):
    return [
        [a + b for a, b in zip(x, p, strict=True)] for x, p in zip(tokens, position, strict=False)
    ]


def transformer(tokens, layers, heads, activation):
    """CLIP's pre-norm layers over tokens with their positions; ``layers`` under OpenAI's names."""
    dim = len(tokens[0])
    width = dim // heads
    hidden = [list(token) for token in tokens]
    for layer in layers:
        normed = [layer_norm(h, layer["ln_1.weight"], layer["ln_1.bias"]) for h in hidden]
        qkv = [linear(n, layer["attn.in_proj_weight"], layer["attn.in_proj_bias"]) for n in normed]
        attended = [[] for _ in hidden]
        for head in range(heads):
            q, k, v = (
                [x[i * dim + head * width : i * dim + (head + 1) * width] for x in qkv]
                for i in range(3)
            )
            for f in range(len(hidden)):
                weights = softmax([dot(q[f], key) / math.sqrt(width) for key in k])
                attended[f] += weighted_sum(weights, v)
        for f, mixed in enumerate(attended):
            out = linear(mixed, layer["attn.out_proj.weight"], layer["attn.out_proj.bias"])
            hidden[f] = [a + b for a, b in zip(hidden[f], out, strict=True)]
            normed = layer_norm(hidden[f], layer["ln_2.weight"], layer["ln_2.bias"])
            inner = linear(normed, layer["mlp.c_fc.weight"], layer["mlp.c_fc.bias"])
            inner = [(quick_gelu if activation == "quick_gelu" else gelu)(x) for x in inner]
            out = linear(inner, layer["mlp.c_proj.weight"], layer["mlp.c_proj.bias"])
            hidden[f] = [a + b for a, b in zip(hidden[f], out, strict=True)]
    return hidden


def self_attention(text, frames, position, layers, heads, activation):
    """CLIP4Clip's seqTransf of the existing frames."""
    hidden = transformer(with_positions(frames, position), layers, heads, activation)
    summed = [
        [a + b for a, b in zip(h, f, strict=True)] for h, f in zip(hidden, frames, strict=True)
    ]
    return mean_pool(None, summed)


def token_weights(tokens, layers):
    """Softmax over tokens of an MLP with ReLU; ``layers`` holds a weight and a bias each."""
    logits = []
    for token in tokens:
        for number, (weight, bias) in enumerate(layers):
            token = linear(token if number == 0 else [max(x, 0.0) for x in token], weight, bias)
        logits += token
    return softmax(logits)


def interaction(words, frames, word_weights, frame_weights):
    """Weighted token-wise interaction of one text and one video."""
    table = [[cosine(word, frame) for frame in frames] for word in words]
    return (
        dot(word_weights, [max(row) for row in table])
        + dot(frame_weights, [max(column) for column in zip(*table, strict=True)])
    ) / 2


def similarity(pool, text, frames, mask, **arguments):
    """``(text, video)`` of cosines; the pool sees one text and one video's existing frames."""
    return np.array(
        [
            [
                cosine(pool(list(t), existing(f, m), **arguments), t)
                for f, m in zip(frames, mask, strict=True)
            ]
            for t in text
        ]
    )


def metrics(scores, video_of_text):
    """Metrics by sorting, tied candidates spread evenly over the ranks they share."""
    scores = [list(map(float, row)) for row in scores]
    captions = {}
    for text, video in enumerate(video_of_text):
        captions.setdefault(int(video), []).append(text)
    queries = {"t2v": [], "v2t": []}
    for text, video in enumerate(video_of_text):
        queries["t2v"].append((scores[text], scores[text][video]))
    for video in captions:
        groups = {w: max(scores[t][video] for t in group) for w, group in captions.items()}
        queries["v2t"].append((list(groups.values()), groups[video]))
    result = {}
    for direction, candidates in queries.items():
        ranks, recalls, gains, inverse = [], {1: [], 5: [], 10: [], 50: []}, [], []
        for values, right in candidates:
            ordered = sorted(values, reverse=True)
            possible = [rank for rank, value in enumerate(ordered, 1) if value == right]
            ranks.append(sum(possible) / len(possible))
            for cutoff, hits in recalls.items():
                hits.append(sum(rank <= cutoff for rank in possible) / len(possible))
            of_orders = [1 / math.log2(1 + rank) if rank <= 10 else 0.0 for rank in possible]
            gains.append(sum(of_orders) / len(possible))
            inverse.append(sum(1 / rank for rank in possible) / len(possible))
        ranks.sort()
        n = len(ranks)
        result[direction] = {f"R@{k}": 100 * sum(hits) / n for k, hits in recalls.items()}
        result[direction]["MdR"] = (ranks[(n - 1) // 2] + ranks[n // 2]) / 2
        result[direction]["MnR"] = sum(ranks) / n
        result[direction] |= {"nDCG@10": 100 * sum(gains) / n, "MRR": 100 * sum(inverse) / n}
    return result


def random_xpool_state(rng, dim):
    state = {}
    for name in (*(f"cross_attn.{p}_proj" for p in ("q", "k", "v", "out")), "linear_proj"):
        state[f"{name}.weight"] = np.eye(dim) + 0.3 * rng.standard_normal((dim, dim))
        state[f"{name}.bias"] = 0.3 * rng.standard_normal(dim)
    for name in ("layer_norm1", "layer_norm2", "layer_norm3"):
        state[f"{name}.weight"] = 1 + 0.3 * rng.standard_normal(dim)
        state[f"{name}.bias"] = 0.3 * rng.standard_normal(dim)
    return state


def random_layer(rng, dim):
    shapes = {
        "attn.in_proj_weight": (3 * dim, dim),
        "attn.in_proj_bias": (3 * dim,),
        "attn.out_proj.weight": (dim, dim),
        "attn.out_proj.bias": (dim,),
        "mlp.c_fc.weight": (4 * dim, dim),
        "mlp.c_fc.bias": (4 * dim,),
        "mlp.c_proj.weight": (dim, 4 * dim),
        "mlp.c_proj.bias": (dim,),
        "ln_1.bias": (dim,),
        "ln_2.bias": (dim,),
    }
    layer = {name: 0.3 * rng.standard_normal(shape) for name, shape in shapes.items()}
    for name in ("ln_1.weight", "ln_2.weight"):
        layer[name] = 1 + 0.3 * rng.standard_normal(dim)
    return layer


def golden():
    """Inputs rounded to 3 digits, so that the file is small, and the formulas' results in full."""
    rng = np.random.default_rng(20220624)
    dim, heads, video_of_text = 8, 2, [0, 0, 1, 2, 2, 2]
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]], bool)
    inputs = {
        "heads": heads,
        "temperature": 0.7,
        "k": 2,
        "attention_temperature": 0.1,
        "video_of_text": video_of_text,
        "mask": mask.tolist(),
        "text": (3 * rng.standard_normal((6, dim))).round(3).tolist(),
        "frames": (3 * rng.standard_normal((4, 4, dim))).round(3).tolist(),
        "state": {k: v.round(3).tolist() for k, v in random_xpool_state(rng, dim).items()},
        "position": rng.standard_normal((5, dim)).round(3).tolist(),
        "layers": [
            {k: v.round(3).tolist() for k, v in random_layer(rng, dim).items()} for _ in range(2)
        ],
    }
    data = inputs["text"], inputs["frames"], inputs["mask"]
    transformer = {"position": inputs["position"], "layers": inputs["layers"], "heads": heads}
    expected = {
        "xpool": similarity(xpool, *data, state=inputs["state"], heads=heads, temperature=0.7),
        "mean_pool": similarity(mean_pool, *data),
        "top_k": similarity(top_k, *data, k=2),
        "attention": similarity(attention_pool, *data, temperature=0.1),
        "self_attention": similarity(self_attention, *data, **transformer, activation="quick_gelu"),
        "self_attention_gelu": similarity(self_attention, *data, **transformer, activation="gelu"),
    }
    expected = {name: value.tolist() for name, value in expected.items()}
    return {**inputs, "expected": expected, "metrics": metrics(expected["xpool"], video_of_text)}


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(golden(), indent=None, sort_keys=True) + "\n", encoding="utf-8")
