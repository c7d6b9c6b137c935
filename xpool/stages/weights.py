"""Make the encoder's weights local: ``data/<setting>/encoder/``.

Everything after this stage reads that folder and nothing else, so the weights are an input like any
other: a digest in ``dvc.lock``, and no download in the middle of a run.
"""


def main() -> None:
    """Fetch the encoder's weights, or pretrain the tiny CLIP.

    Pretraining, in the mini setting, takes a minute and a half on 2 cores.

    Example: xpool weights
    """
    import shutil

    from xpool.encoders.base import EncoderParams, describe
    from xpool.encoders.sanity import check_encoder
    from xpool.project import paths
    from xpool.project.params import read, setting
    from xpool.project.plugins import load
    from xpool.project.workspace import WORK, publish, write_json
    from xpool.training.pretrain import PretrainParams, pretrain

    params = read("encoder", EncoderParams)
    library = load(f"xpool.encoders.{params.library}", "ENCODER")
    folder = WORK / "encoder"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if params.pretrained == "mini_world":
        pretrain(read("encoder.pretraining", PretrainParams), folder)
    else:
        library.prepare(params, folder)
    encoder = library.open(folder)
    check_encoder(encoder.eval(), f"{params.model} ({params.pretrained})")
    write_json(folder / "encoder.json", describe(encoder, params, folder))
    publish(folder, paths.encoder(setting()))
