"""Wrong inputs as data: what is called, what the one sentence must name, and the words of its remedy."""

from __future__ import annotations

import shlex
from typing import NamedTuple


class Mistake(NamedTuple):
    """A row of the table.

    Attributes:
        script: of src/.
        overrides: beside those of `BASE`; {best} is a checkpoint of this project, {run} its run directory, {data} a
            folder of scenes, {text} a text file that exists.
        names: what the sentence must name: key, value or file.
        remedy: what the sentence must say about the way out.
    """

    script: str
    overrides: tuple[str, ...]
    names: tuple[str, ...]
    remedy: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.script} {' '.join(self.overrides)}"


def _rows(script: str, table: str) -> list[Mistake]:
    """Read lines of ``overrides | names | remedy``; names and words of the remedy are separated by semicolons."""
    rows = []
    for line in table.strip().splitlines():
        overrides, names, remedy = (cell.strip() for cell in line.split(" | "))
        words = [tuple(word.strip() for word in cell.split(";")) for cell in (names, remedy)]
        rows.append(Mistake(script, tuple(shlex.split(overrides)), *words))
    return rows


TRAIN = r"""
loss=dice | loss/dice | focal, ohem, segmentation
upsample=jpv | upsample/jpv | bilinear, bilinear_skip, carafe, dysample, fpn, guided, jpu, jpu_x, none, sapa
head=foo | head/foo | aspp, encoding, fcn, psp
data=nosuch | data/nosuch | ade20k, coco, folder, pascal_context, scenes
callbacks=foo | callbacks/foo | default, none
logger=foo | logger/foo | csv, none, tensorboard, wandb
logger=[csv,foo] | logger/foo | --help
inference=foo | inference/foo | center_crop, default, multiscale, slide, whole
experiment=nosuch | experiment/nosuch | --help
sweep=nosuch | sweep/nosuch | demo, grid, search
debug=foo | debug/foo | fast, overfit
hydra/launcher=nosuch | hydra/launcher/nosuch | joblib, slurm
optim.lrr=1 | optim.lrr | no such key
optimm=sgd | optimm | no such key
trainer.strategy=foo | trainer.strategy | no such key
+optim.lrr=5 | optim;lrr;SGDPoly | correct optim
+data.foo=5 | data;foo | correct data
+trainer.foo=1 | trainer;foo | trainer=default
foo | foo | missing EQUAL
--nosuchflag | --nosuchflag | --help
--config-name nosuch | nosuch | --cfg job
optim=5 | optim=5 | --help lists
trainer=null | trainer=null | ~group
~callbacks.nosuch | callbacks.nosuch | --cfg job
optim.lr=${nosuch} | nosuch | --cfg job
optim.lr=${oc.env:NO_SUCH_VARIABLE} | optim.lr;NO_SUCH_VARIABLE | --cfg job
optim.lr=0.1,0.2 | optim.lr=0.1,0.2 | --multirun
data.dataset._target_=foo.Bar | data.dataset;foo.Bar | install
+callbacks.mine=5 | callbacks;5 | _target_
+callbacks.mine={_target_:no.such.Callback} | callbacks.mine;no.such.Callback | install
+logger.mine={_target_:builtins.int} | logger;0 | _target_
seed=1.5 | seed=1.5 | a whole number
seed=-1 | seed=-1 | at least 0
seed=99999999999999999999 | seed=99999999999999999999 | at most 4294967295
seed=null | seed=null | a whole number
run_name=5 | run_name=5 | text;quotes
optim.lr=abc | optim.lr=abc | a number
optim.lr=0 | optim.lr=0 | above 0
optim.lr=-1 | optim.lr=-1 | above 0
optim.lr=nan | optim.lr=nan | a number above 0
optim.lr=inf | optim.lr=inf | finite
optim.momentum=-1 | optim.momentum=-1 | less than 1
optim.momentum=2 | optim.momentum=2 | less than 1
optim.weight_decay=-1 | optim.weight_decay=-1 | at least 0
optim.new_lr_factor=-1 | optim.new_lr_factor=-1 | above 0
optim.power=-1 | optim.power=-1 | at least 0
optim.reference_batch=0 | optim.reference_batch=0 | at least 1 or null
optim.fused=maybe | optim.fused=maybe | true or false or null
loss.aux_weight=-1 | loss.aux_weight=-1 | at least 0
loss.presence_weight=inf | loss.presence_weight=inf | finite
loss.gamma=-1 | loss.gamma=-1 | at least 0
loss.class_weights=rare | loss.class_weights=rare | inverse_frequency
loss.class_weights=[1,-1] | loss.class_weights=[1,-1] | at least 0
loss.class_weights=[1,2,3] | loss.class_weights=[1, 2, 3] | one number for each of the 11 classes
loss.ohem_threshold=2 | loss.ohem_threshold=2 | at most 1
loss.ohem_min_kept=0 | loss.ohem_min_kept=0 | at least 1 or null
loss.ohem_min_kept=9 | loss.ohem_min_kept=9 | loss.ohem_threshold=0.7
freeze=[c9] | freeze;'c9' | backbone, stem, c2, c3, c4, c5, upsample, head, aux_head
freeze=backbone | freeze=backbone | a list
freeze=[aux_head] model.aux_head=null | freeze=['aux_head'] | leave it out
freeze=[backbone,upsample,head,aux_head] | freeze | fewer parts
optim.layer_decay=0 | optim.layer_decay=0 | above 0
optim.layer_decay=1.5 | optim.layer_decay=1.5 | at most 1
optim.factors={neck:1} | optim.factors;'neck' | backbone, stem
optim.factors={head:0} | optim.factors={'head': 0} | above 0
optim.factors=3 | optim.factors=3 | a mapping
deterministic=perhaps | deterministic=perhaps | warn
activation_checkpointing=[c9] | activation_checkpointing=['c9'] | c2, c3, c4, c5, upsample, head
fit=maybe | fit=maybe | true or false
trainer.max_epochs=0 | trainer.max_epochs=0 | fit=false
trainer.max_epochs=-1 | trainer.max_epochs=-1 | +trainer.max_steps
trainer.max_epochs=-5 | trainer.max_epochs=-5 | at least -1
trainer.max_epochs=1.5 | trainer.max_epochs=1.5 | a whole number
+trainer.max_steps=0 | trainer.max_steps=0 | at least 1
+trainer.max_time=00:01:00:00 | trainer.max_time | +callbacks.timer.duration
+callbacks.timer.duration=abc | callbacks.timer;abc | DD:HH:MM:SS
trainer.accelerator=quantum | quantum | trainer=default
trainer.accelerator=tpu | trainer;torch_xla | trainer=default
trainer.devices=0 | trainer.devices=0 | choose from 1
trainer.devices=-3 | trainer.devices=-3 | choose from 1
trainer.devices=abc | trainer.devices=abc | choose from 1
trainer.devices=[0,1] | trainer.devices=[0, 1] | choose from 1
trainer.devices=10000 | trainer.devices=10000 | cores
trainer=ddp trainer.accelerator=cpu trainer.devices=10000 | trainer.devices=10000 | cores
trainer.num_nodes=0 | trainer.num_nodes=0 | at least 1
trainer.precision=foo | trainer.precision=foo | bf16-mixed
trainer.precision=16-true | trainer.precision=16-true | bf16-mixed
trainer.accumulate_grad_batches=0 | trainer.accumulate_grad_batches=0 | at least 1
trainer.gradient_clip_val=-1 | trainer.gradient_clip_val=-1 | at least 0 or null
trainer.check_val_every_n_epoch=0 | trainer.check_val_every_n_epoch=0 | at least 1 or null
trainer.num_sanity_val_steps=-5 | trainer.num_sanity_val_steps=-5 | at least -1
trainer.log_every_n_steps=-1 | trainer.log_every_n_steps=-1 | at least 0
+trainer.val_check_interval=100 | trainer.val_check_interval=100;2 batches | lower it
+trainer.val_check_interval=-0.5 | trainer.val_check_interval=-0.5 | above 0
+trainer.limit_train_batches=0 | trainer.limit_train_batches=0 | above 0
+trainer.fast_dev_run=-1 | trainer;fast_dev_run=-1 | trainer=default
+trainer.strategy=foo | trainer;strategy='foo' | trainer=default
trainer.plugins=foo | trainer;plugin | trainer=default
trainer.use_distributed_sampler=true | trainer.use_distributed_sampler=true | leave it false
data.batch_size=0 | data.batch_size=0 | at least 1
data.batch_size=9 | data.batch_size=9;8 images | lower it
data.batch_size=1.5 | data.batch_size=1.5 | a whole number
data.crop_size=0 | data.crop_size=0 | at least 1
data.base_size=-3 | data.base_size=-3 | at least 1
data.scale=[2,1] | data.scale=[2, 1] | 0 < low <= high
data.scale=[1] | data.scale=[1] | two numbers
data.scale=1 | data.scale=1 | a list
data.scale=[a,b] | data.scale=[a,b] | a number
data.scale=[0.5,inf] | data.scale=[0.5,inf] | finite
data.flip=2 | data.flip=2 | at most 1
data.cat_max_ratio=0 | data.cat_max_ratio=0 | above 0
data.class_crops=2 | data.class_crops=2 | at most 1
data.blur=-0.1 | data.blur=-0.1 | at least 0
data.blur_radius=nan | data.blur_radius=nan | at least 0
data.augmentations=3 | data.augmentations=3 | a list
data.augmentations=[3] | data.augmentations;3 | _target_
data.augmentations=[{_target_:albumentations.NoSuch}] | data.augmentations;albumentations.NoSuch | install
data.augmentations=[{_target_:albumentations.HorizontalFlip,p:3}] | data.augmentations;input_value=3 | less than
data.whole_eval=2 | data.whole_eval=2 | true or false
data.eval_batch_size=0 | data.eval_batch_size=0 | at least 1 or null
data.num_workers=-1 | data.num_workers=-1 | at least 0;or auto
data.num_workers=100000 | data.num_workers=100000 | at most;or auto
data.on_bad_sample=ignore | data.on_bad_sample=ignore | error or skip
data.max_bad_samples=-1 | data.max_bad_samples=-1 | at least 0
data.split=foo | 'foo' | train, val, test
data.train_split=3 | data.train_split=3 | quotes
data.dataset.size=8 | size;8 | 64 to 512
data.dataset.counts=3 | data.dataset.counts=3 | a mapping
data.dataset.counts={val:0} | data.dataset.counts;0 | at least 1
data.dataset.cache_dir=/proc/none | /proc/none | another folder
paths.data_dir=/dev/null/x | /dev/null/x | another folder
paths.data_dir=5 | paths.data_dir=5 | quotes
hydra.run.dir=/proc/none | /proc/none | choose a path
hydra.run.dir={text}/x | {text}/x | choose a path
callbacks.best.dirpath=/proc/none paths.outside=true | callbacks.best.dirpath=/proc/none | choose a folder
callbacks.last.dirpath={text}/x paths.outside=true | callbacks.last.dirpath={text}/x | choose a folder
callbacks.draw_predictions.directory=/proc/none paths.outside=true | predictions.directory=/proc/none | choose a folder
callbacks.draw_predictions.images=-1 | callbacks.draw_predictions.images=-1 | at least 0
callbacks.average_weights.decay=1 | callbacks.average_weights.decay=1 | less than 1
callbacks.stop_early.patience=0 | callbacks.stop_early.patience=0 | at least 1 or null
callbacks.stop_early.min_delta=-1 | callbacks.stop_early.min_delta=-1 | at least 0
callbacks.stop_early.mode=up | callbacks.stop_early.mode=up | max or min
callbacks.best.mode=foo | callbacks.best;foo | min, max
callbacks.best.save_top_k=-2 | callbacks.best.save_top_k=-2 | at least -1
callbacks.last.minutes=0 | callbacks.last.minutes=0 | above 0 or null
callbacks.last.every_n_steps=0 | callbacks.last.every_n_steps=0 | at least 1 or null
callbacks.show_summary.image_size=[64] | callbacks.show_summary.image_size=[64] | of 2
callbacks.progress.refresh_rate=0 | callbacks.progress.refresh_rate=0 | at least 1
callbacks.learning_rate.logging_interval=hour | callbacks.learning_rate;logging_interval | step
logger=wandb logger.wandb.mode=foo | logger.wandb.mode=foo | auto or online or offline or disabled
logger=wandb logger.wandb.tags=3 | logger.wandb.tags=3 | a list
backbone.weights=NOSUCH_V1 | backbone.weights=NOSUCH_V1 | IMAGENET1K_V1
backbone.weights=/nowhere.pth | /nowhere.pth | none
backbone.depth=19 | backbone.depth=19 | 18, 34, 50, 101 or 152
backbone.stem=deep | backbone.stem=deep | 7x7
output_stride=16 | output_stride=16 | 8
output_stride=8 | output_stride=8;JPU | 32
head_kernel_size=2 | head_kernel_size=2 | odd
head.width=0 | head.width=0 | at least 1
head.width=99999999999999 | head.width=99999999999999 | at most 2147483647
head.num_codewords=0 | head.num_codewords=0 | at least 1
upsample.dilations=[] | upsample.dilations=[] | at least one
upsample.dilations=[0] | upsample.dilations=[0] | at least 1
model.aux_head.level=c1 | model.aux_head.level=c1 | c2 or c3 or c4 or c5
inference=slide inference.scales=[] | inference.scales=[] | at least one
inference=slide inference.windows=0 | inference.windows=0 | at least 1
inference=slide inference.fusion=mean | inference.fusion=mean | exp_sum or softmax
optimize.dtype=float8 | optimize.dtype=float8 | bfloat16
speed=table2 speed.image_size=[64] | speed.image_size=[64] | [height, width]
fine_tune=true | fine_tune=true | init_from=
resume=/nowhere.ckpt | /nowhere.ckpt | checkpoints/
resume={text} | {text} | damaged
resume=5 | resume=5 | quotes
resume={best} | {best} | raise trainer.max_epochs
resume={best} init_from={best} | resume;init_from | one of the two
init_from=/nowhere.ckpt | /nowhere.ckpt | checkpoints/
new_classifier=true | new_classifier=true | init_from=
new_classifier=maybe | new_classifier=maybe | true or false
init_from={best} new_classifier=true head.width=64 | init_from={best} | choose the backbone
init_from={best} head.width=64 | init_from={best} | choose the backbone
"""

EVAL = r"""
inference=slide | ckpt_path=... | official=...
ckpt_path=5 | ckpt_path=5 | quotes
ckpt_path=/nowhere.ckpt | /nowhere.ckpt | checkpoints/
ckpt_path={text} | {text} | damaged
ckpt_path={best} official={best} | ckpt_path | one checkpoint
official=/nowhere.pth.tar | official=/nowhere.pth.tar | no such file
ckpt_path={best} data.split=foo | 'foo' | train, val, test
ckpt_path={best} data=folder | data.dataset.root | data.dataset.root=...
ckpt_path={best} data=folder data.dataset.root=/nowhere | data.dataset.root=/nowhere | folder of the data set
ckpt_path={best} inference=foo | inference/foo | slide
ckpt_path={best} inference=slide inference.crop_size=0 | inference.crop_size=0 | at least 1 or null
ckpt_path={best} inference=slide inference.scales=[0] | inference.scales=[0] | above 0
ckpt_path={best} trainer.devices=0 | trainer.devices=0 | choose from 1
ckpt_path={best} trainer.devices=1000 | trainer.devices=1000 | cores
ckpt_path={best} trainer.precision=abc | trainer.precision=abc | bf16-mixed
ckpt_path={best} trusted=[] | fastfcn | trusted
ckpt_path={best} trusted=5 | trusted=5 | a list
ckpt_path={best} seed=-1 | seed=-1 | at least 0
ckpt_path={best} compile=maybe | compile=maybe | true or false
ckpt_path={best} keep_heap=maybe | keep_heap=maybe | true or false
ckpt_path={best} nosuch=5 | nosuch | no such key
ckpt_path={best} hydra.run.dir=/proc/none | /proc/none | choose a path
ckpt_path={best} submission=5 | submission=5 | quotes
ckpt_path={best} submission={run} | {run} | another name
compare=[a] | compare | two evaluations
compare=a | compare=a | a list
compare=[/nowhere/a,/nowhere/b] | /nowhere/a | eval.py
compare=[{text},{text}] | {text} | evaluate the checkpoint again
"""

PREDICT = r"""
figure=??? | figure | figure=...
checkpoints=??? | checkpoints | checkpoints=...
checkpoints=[] | checkpoints | at least one file
checkpoints={best} | checkpoints={best} | a list
checkpoints=[5] | checkpoints=[5] | text
checkpoints=[/nowhere.ckpt] | /nowhere.ckpt | checkpoints/
checkpoints=[{text}] | {text} | damaged
figure=/proc/none/page.png | /proc/none | choose a folder
figure={text}/page.png | {text} | choose a folder
figure=page.xyz | page.xyz | .png
figure={run} | {run} | .png
names=[a,b] | names=['a', 'b'] | a name of its own
names=a | names=a | a list
images=[nosuch] | nosuch | images
images=nosuch | images=nosuch | a list
pick=foo | pick=foo | differ
count=0 | count=0 | at least 1
count=abc | count=abc | a whole number
count=5 candidates=2 | candidates=2 | count
errors=maybe | errors=maybe | true or false
device=foo | device=foo | cpu
device=5 | device=5 | quotes
data.split=foo | 'foo' | train, val, test
data=folder data.dataset.root=/nowhere | data.dataset.root=/nowhere | folder of the data set
trusted=[] | fastfcn | trusted
seed=abc | seed=abc | a whole number
foo=5 | foo | no such key
figure=null checkpoints=null | something to do | ckpt_path=... input=...
ckpt_path={best} input={run} | one of the two | figure=... checkpoints=[...]
checkpoints=null | checkpoints | checkpoints=...
figure=null checkpoints=null input={run} | ckpt_path | ckpt_path=...
IMAGES | input | input=...
IMAGES input=[] | input is empty | a folder
IMAGES input=5 | input=5 | quotes
IMAGES input=/nowhere | input=/nowhere | no such file or folder
IMAGES input=https://example.org/a.jpg | https://example.org/a.jpg | download it
IMAGES input=webcam:front | input=webcam:front | webcam:0
IMAGES input=webcam:99 | input=webcam:99 | no camera
IMAGES input=[-,{run}] | - goes alone | input
IMAGES input={run}/checkpoints | {run}/checkpoints | no image
IMAGES input={text} out=a.png | {text} | cannot be read as an image
IMAGES input={run} names=[a] | names=['a'] | figure=...
IMAGES input={run} data=scenes | data=... | input=...
IMAGES input={run} output=[foo] | output=[foo] | mask, ids
IMAGES input={run} output=[] | output=[] | mask, ids
IMAGES input={run} output=mask | output=mask | a list
IMAGES input={run} output=[video] | output=[video] | videos
IMAGES input={run} alpha=2 | alpha=2 | at most 1
IMAGES input={run} batch_size=0 | batch_size=0 | at least 1
IMAGES input={run} tile=100 | tile=100 | a multiple of 32
IMAGES input={run} tile=big | tile=big | auto
IMAGES input={run} tile=128 | halo=128 | tile=288
IMAGES input={run} halo=-32 | halo=-32 | at least 0
IMAGES input={run} frames=0 | frames=0 | at least 1
IMAGES input={run} on_bad_image=maybe | on_bad_image=maybe | error or skip
IMAGES input={run} overwrite=5 | overwrite=5 | true or false
IMAGES input={run} out=/proc/none | out=/proc/none | choose a folder
IMAGES input={run} out={run} | out={run} | choose another folder
IMAGES input={run} out=a.png | out=a.png | name a folder
IMAGES input={run}/curves.png out=a.npz | out=a.npz | .png
IMAGES input={run}/curves.png out=a.png output=[mask,ids] | out=a.png | one kind
IMAGES input={run} inference=center_crop | inference=center_crop | whole, slide, multiscale
IMAGES input={run} optimize.winograd=false | optimize.winograd=false | inference.optimize=true
IMAGES input={run} device=foo | device=foo | cpu
figure=null checkpoints=null ckpt_path=/nowhere.ckpt input={run} | /nowhere.ckpt | checkpoints/
figure=null checkpoints=null ckpt_path={text} input={run} | {text} | damaged
""".replace("IMAGES", "figure=null checkpoints=null ckpt_path={best}")

PREPARE = r"""
data=??? | data | choose one of
data=nosuch | data/nosuch | ade20k, coco, folder
data=folder | data.dataset.root | data.dataset.root=...
data=coco prepare.check=true data.dataset.root=/x data.dataset.val_share=1 | data.dataset.val_share=1 | less than 1
data=coco data.dataset.root=/nowhere prepare.check=true data.dataset.overlap=first | overlap=first | last or smallest
data=scenes prepare.check=maybe | prepare.check=maybe | true or false
data=scenes prepare.check=true prepare.workers=-1 | =-1 | at least 0 or null
data=scenes prepare.check=true prepare.splits=[] | prepare.splits | at least one
data=scenes prepare.check=true prepare.splits=5 | prepare.splits=5 | a list
data=scenes prepare.check=true prepare.out=/proc/none | /proc/none | another folder by prepare.out
data=scenes prepare.nosuch=5 | prepare.nosuch | no such key
data=ade20k prepare.dry_run=maybe | prepare.dry_run=maybe | true or false
data=ade20k prepare.sources.images=null | prepare.sources.images | prepare.sources
data=ade20k prepare.sources=5 | prepare.sources=5 | a mapping
data=ade20k prepare.retries=-1 | prepare.retries=-1 | at least 0
data=ade20k prepare.timeout=0 | prepare.timeout=0 | above 0
data=ade20k prepare.counts=5 | prepare.counts=5 | a mapping
data=ade20k prepare.mirrors=5 | prepare.mirrors=5 | a list
data=pascal_context prepare.labels=foo | prepare.labels=foo | json, mat
data=pascal_context prepare.labels=png prepare.png=/nowhere | /nowhere | prepare.png
data=pascal_context prepare.png_ids=7 | prepare.png_ids=7 | 60
data=pascal_context prepare.png_ids=abc | prepare.png_ids=abc | a whole number
"""

EXPORT = r"""
nosuch=1 | nosuch | no such key
to=??? | to | to=...
to=foo | to=foo | ckpt, official
to=5 | to=5 | quotes
to=ckpt | to=ckpt | official=...
to=official | to=official | ckpt_path=...
to=ckpt ckpt_path={best} | to=ckpt | official=...
to=official ckpt_path={best} official={best} | to=official | nothing else
to=official ckpt_path=/nowhere.ckpt | /nowhere.ckpt | checkpoints/
to=official ckpt_path={text} | {text} | damaged
to=ckpt official=/nowhere.pth.tar | official=/nowhere.pth.tar | no such file
to=official ckpt_path={best} out=/proc/none/a.pth.tar | /proc/none | choose a folder
to=official ckpt_path={best} out={text}/a.pth.tar | {text} | choose a folder
to=official ckpt_path={best} out={text} | {text} | another name
to=hub ckpt_path={best} | hub.repo=null | user/name
to=hub ckpt_path={best} hub.repo=name | hub.repo=name | user/name
to=hub hub.repo=user/name | ckpt_path=... | official=...
to=hub ckpt_path={best} hub.repo=user/name hub.private=maybe | hub.private=maybe | true or false
to=hub ckpt_path={best} hub.repo=user/name hub.evaluation=/nowhere | /nowhere | eval.py
to=hub ckpt_path={best} hub.repo=user/name out=/proc/none/a | out=/proc/none | choose a folder
to=hub ckpt_path=hf://user hub.repo=user/name | hf://user | hf://user/name
to=safetensors ckpt_path={best} hub.push=true | hub.push | to=hub
to=onnx | to=onnx | ckpt_path=...
to=onnx ckpt_path={best} official={best} | to=onnx | one checkpoint
to=onnx ckpt_path={text} | {text} | damaged
to=onnx ckpt_path={best} out=a.xyz | out=a.xyz | .onnx
to=onnx ckpt_path={best} trusted=[] | fastfcn | trusted
to=onnx ckpt_path={best} data=scenes | data=... | export.precision=int8
to=onnx ckpt_path={best} export.precision=fp8 | export.precision=fp8 | fp32 or fp16 or int8
to=onnx ckpt_path={best} export.size=[64] | export.size=[64] | [height, width]
to=onnx ckpt_path={best} export.size=64 | export.size=64 | a list
to=onnx ckpt_path={best} export.batch=0 | export.batch=0 | at least 1
to=onnx ckpt_path={best} export.dynamic=maybe | export.dynamic=maybe | true or false
to=onnx ckpt_path={best} export.dynamic=true export.batch=2 | export.batch=2 | leave it out
to=onnx ckpt_path={best} export.pixels=float32 | export.pixels=float32 | export.normalise=true
to=onnx ckpt_path={best} export.agreement=2 | export.agreement=2 | at most 1
to=openvino official=/nowhere.pth.tar | official=/nowhere.pth.tar | no such file
to=torch_export ckpt_path={best} export.precision=int8 | export.precision=int8 | onnx or openvino
to=safetensors ckpt_path={best} export.dynamic=true | export.dynamic=true | onnx, openvino
"""

REPORT = r"""
runs=??? | runs | runs=...
runs=/nowhere | runs=/nowhere | outputs/
runs=5 | runs=5 | quotes
runs=[] | runs=[] | a directory
runs={text} | runs={text} | no such directory
runs={data} | runs={data} | run directories
runs={run} out=/proc/none | out=/proc/none | choose a folder
runs={run} out={text} | out={text} | choose a folder
runs={run} seed=-1 | seed=-1 | at least 0
runs={run} device=foo | device=foo | cpu
runs={run} channels_last=5 | channels_last=5 | true or false
runs={run} trusted=5 | trusted=5 | a list
runs={run} latency=5 | latency=5 | null
runs={run} latency.repeats=0 | latency.repeats=0 | at least 1
runs={run} latency.measure=maybe | latency.measure=maybe | auto
runs={run} latency.foo=1 | latency.foo | no such key
runs={run} figure.images=0 | figure.images=0 | at least 1
runs={run} figure.images=9 figure.candidates=3 | images=9 | candidates
"""

BENCHMARK = r"""
task=foo | task/foo | inference
repeats=0 | repeats=0 | at least 1
seconds=0 | seconds=0 | above 0
seconds=nan | seconds=nan | above 0
warmup_seconds=-1 | warmup_seconds=-1 | at least 0
num_classes=0 | num_classes=0 | at least 1
matrix_side=0 | matrix_side=0 | at least 1 or null
device=foo | device=foo | cpu
device=5 | device=5 | quotes
ckpt_path=/nowhere.ckpt | /nowhere.ckpt | checkpoints/
out=/proc/none | out=/proc/none | choose a folder
out={text} | out={text} | choose a folder
data=folder | data.dataset.root | data.dataset.root=...
upsample=none ~upsample.width | upsample.width | correct it
task.batch=0 | task.batch=0 | at least 1
task.image_size=[64] | task.image_size=[64] | 2 whole numbers
task.image_size=64 | task.image_size=64 | a list
task.models=foo | task.models=foo | table2
task.arms=[nosuch] | nosuch | plain
task.arms=5 | task.arms=5 | a list
task=training task.parts=[foo] | foo | encoding
task=evaluation task.scales=[] | scales=[] | at least one
task=scaling task.upsamplers=[foo] | foo | jpu
task=data task.images=4 | task.images=4 | batch_size
task=targets task.groups=[foo] | foo | inference
task=exports task.rows=[foo] | foo | ONNX Runtime
task=exports task.files=[/nowhere.onnx] | /nowhere.onnx | export.py
"""

WEB = r"""
port=0 | port=0 | at least 1
port=70000 | port=70000 | at most 65535
port=abc | port=abc | a whole number
side=8 | side=8 | at least 32
upload_mb=0 | upload_mb=0 | at least 1
megapixels=-1 | megapixels=-1 | at least 1
seconds=0 | seconds=0 | above 0
keep=1 | keep=1 | at least 2
waiting=0 | waiting=0 | at least 1
device=foo | device=foo | cpu
checkpoints={best} | checkpoints={best} | a list
checkpoints=[/nowhere.ckpt] | /nowhere.ckpt | checkpoints/
checkpoints=[{text}] | {text} | damaged
runs=5 | runs=5 | quotes
trusted=[] | fastfcn | trusted
nosuch=5 | nosuch | no such key
"""

TABLE = [
    row
    for script, table in {
        "train.py": TRAIN,
        "eval.py": EVAL,
        "predict.py": PREDICT,
        "prepare.py": PREPARE,
        "export.py": EXPORT,
        "report.py": REPORT,
        "benchmark.py": BENCHMARK,
        "web.py": WEB,
    }.items()
    for row in _rows(script, table)
]
