"""Embed generated videos with each number of scenes: ``data/<setting>/scenes/<scenes>/``."""


def main() -> None:
    """Generate and embed videos with each number of scenes.

    The study scene_diversity reads them.

    Example: xpool scenes
    """
    from xpool.data.frame_cache import FramesParams
    from xpool.encoders.base import best_device, open_encoder
    from xpool.encoders.embed import EmbeddingsParams, embed
    from xpool.mini.scenes import WorldParams, check_scenes, draw, texts_of
    from xpool.project import paths
    from xpool.project.params import read, setting
    from xpool.project.progress import progress

    params = read("ablations.scene_diversity.world", WorldParams)
    numbers = read("ablations.scene_diversity.scenes", list[int])
    check_scenes(numbers, params)
    frames, count = read("frames", FramesParams), read("train.frames", int)
    embeddings = read("embeddings", EmbeddingsParams)
    encoder = open_encoder(paths.encoder(setting())).to(best_device()).eval()
    paths.all_scenes(setting()).mkdir(parents=True, exist_ok=True)  # also where none is listed
    for scenes in numbers:
        texts, shown = texts_of(params, scenes)
        videos = draw(params, shown, count, frames)
        videos = progress(videos, f"{scenes} scenes", total=len(shown))
        destination = paths.scenes(setting(), scenes)
        embed(encoder, texts, videos, embeddings, frames.antialias, "none, drawn", destination)
