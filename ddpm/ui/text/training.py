"""Tab "Training"."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    "training.question": ("How does the network learn this?", "网络是怎样学会的？"),
    "training.body": (
        "Each training step takes a few images, draws a $t$ and noise $\\epsilon$ for each, and changes the weights a "
        "little so that the network predicts this noise better. The [loss](loss) starts at 1, the price of always "
        "predicting “no noise”; it falls steeply at first, then ever more slowly.",
        "训练的每一步取几张图像，为每张随机抽取 $t$ 和噪声 $\\epsilon$，再稍微改动权重，使网络更准确地预测这份噪声。"
        "[损失](loss)从 1 开始，这是总预测“没有噪声”的代价；起初下降很快，后来越来越慢。",
    ),
    "training.try": (
        "Train a small model yourself, then drag the slider back: the loss soon hardly moves, but the "
        "[samples](samples) still change. Then look at the losses by $t$: which $t$ are learnt first?",
        "亲自训练一个小模型，再把滑块拖回去看：损失很快就几乎不动了，[样本](samples)却还在变化。再看按 $t$ 分开的损失："
        "哪些 $t$ 最先学会？",
    ),
    "training.why": (
        "Why does the loss never reach 0? At small $t$ the noise is so weak that it looks like texture. The loss left "
        "there is no fault of the network; this is why the lines by $t$ end at different heights.||Why two curves for "
        "held-out images? Averaged weights (EMA) smooth out the jitter of single steps, so their loss is usually "
        "lower than that of the raw weights. The samples come from the averaged weights.||Why do samples improve "
        "while the loss stands still? The loss averages over all $t$; small gains at large $t$ decide the shapes, but "
        "hardly show in the mean.||Why logarithmic axes? Most of the fall happens in the first percent of the steps.",
        "为什么损失到不了 0？$t$ 小时噪声太弱，看上去就像纹理。那里剩下的损失不是网络的错；"
        "按 $t$ 分开的各条线因此停在不同的高度。||为什么留出集有两条曲线？平均权重（EMA）抹平了单个步骤的抖动，"
        "所以损失通常低于原始权重。样本来自平均权重。||为什么损失不动了样本还在变好？损失是对所有 $t$ 的平均；"
        "形状取决于 $t$ 大时的微小进步，在平均值里几乎看不出来。||为什么用对数坐标？"
        "大部分下降发生在最初百分之一的步数里。",
    ),
    "training.along": (
        "One training example: your picture, a $t$ and noise. The network sees $x_t$ and $t$; the loss compares its "
        "answer with $\\epsilon$.",
        "一个训练样例：你的图像、一个 $t$ 和一份噪声。网络看到 $x_t$ 和 $t$，损失把它的回答与 $\\epsilon$ 比较。",
    ),
    "training.recorded": ("This model", "本页的模型"),
    "training.live": ("Train one now", "现在就训练一个"),
    "training.start": ("Train", "开始训练"),
    "training.stop": ("Stop", "停止"),
    "training.loss": ("loss by training step", "各训练步的损失"),
    "training.chart": (
        "Training loss against the step, {view}, both axes logarithmic; click to choose a step",
        "训练损失随步数的变化，{view}，双对数坐标；点击可选择步数",
    ),
    "training.view": ("Which losses", "哪些损失"),
    "training.view.all": ("All t", "所有 t"),
    "training.view.by_t": ("By t", "按 t 分开"),
    "training.key.raw": ("training", "训练"),
    "training.key.smooth": ("smoothed", "平滑后"),
    "training.key.val": ("held out, raw weights", "留出集，原始权重"),
    "training.key.ema": ("held out, averaged weights", "留出集，平均权重"),
    "training.key.learnt": ("training images, averaged weights", "训练图像，平均权重"),
    "training.key.by_t": ("tenths of $T$, from clean to noise", "$T$ 的十等分，从干净到噪声"),
    "training.key.full": ("after {steps} {steps?step:steps}: {loss}", "训练 {steps} 步之后：{loss}"),
    "training.now": ("step {step}: {loss}", "第 {step} 步：{loss}"),
    "training.slider": ("training step", "训练步数"),
    "training.at": ("step {step}", "第 {step} 步"),
    "training.samples": ("samples at step {step}", "第 {step} 步的样本"),
    "training.samples.label": ("Samples drawn at training step {step}", "训练到第 {step} 步时的样本"),
    "training.start_noise": ("initial noise of the samples", "样本的初始噪声"),
    "training.start_noise.label": ("The fixed noise that all samples start from", "所有样本由此开始的固定噪声"),
    "training.again.recorded": ("To train it again:", "重新训练的命令："),
    "training.again.live": ("To train it at full length:", "完整训练的命令："),
    "training.copy": ("Copy", "复制"),
    "training.copied": ("Copied", "已复制"),
    "training.reading": ("Reading the training record …", "正在读取训练记录……"),
    "training.failed_reading": ("The training record is currently unavailable.", "现在无法读取训练记录。"),
    "training.options": (
        "{data}: {steps} {steps?step:steps} of {batch} {batch?image:images}, learning rate {rate}, widths {widths}, T "
        "= {T}, EMA half-life {ema} {ema?image:images}.{begun}",
        "{data}：{steps} 步，每步 {batch} 张图像，学习率 {rate}，通道数 {widths}，T = {T}，EMA 半衰期 {ema} 张图像。"
        "{begun}",
    ),
    "training.memorises": (
        " It begins to memorise at step {step}: from there on, its loss on training images is clearly below the one "
        "on held-out images.",
        "从第 {step} 步起，它开始记忆训练图像：在训练图像上的损失明显低于留出集。",
    ),
    "training.own_data": ("Own images", "自有图像"),
    "training.no_options": (
        "The model’s files do not record its training options.",
        "模型的文件没有记录训练时所用的选项。",
    ),
    "training.no_record": (
        "This model comes without a record of its training (metrics.jsonl, samples). You can train a small one below.",
        "这个模型没有附带训练记录（metrics.jsonl、样本）。可以在下面训练一个小模型。",
    ),
    "training.idle": (
        "The loop of train.py runs on scikit-learn’s digits: {steps} {steps?step:steps}, or as many as {seconds} s "
        "allow.",
        "用 train.py 的循环训练 scikit-learn 手写数字：{steps} 步，或 {seconds} 秒内能完成的步数。",
    ),
    "training.off": ("Live training is turned off on this server.", "这台服务器关闭了现场训练。"),
    "training.starting": ("Starting the training process …", "正在启动训练进程……"),
    "training.loading": ("Loading {what} …", "正在加载 {what}……"),
    "training.loading.data": ("Preparing the digits and the network …", "正在准备手写数字和网络……"),
    "training.running": (
        "Step {step} of {steps}, loss {loss}, {speed} images/s",
        "第 {step} / {steps} 步，损失 {loss}，每秒 {speed} 张图像",
    ),
    "training.watching.running": (
        "You are watching another visitor’s training: step {step} of {steps}, loss {loss}, {speed} images/s",
        "你正在旁观另一位访客的训练：第 {step} / {steps} 步，损失 {loss}，每秒 {speed} 张图像",
    ),
    "training.watching.ended": (
        "The other visitor’s training ended at step {step}. You can start your own now.",
        "另一位访客的训练已在第 {step} 步结束，现在可以开始你自己的训练。",
    ),
    "training.busy": (
        "Another visitor is training; only one can train at a time. Watch theirs, and start yours when it has ended.",
        "另一位访客正在训练，同一时间只能有一个。可以先旁观，等它结束后再开始。",
    ),
    "training.ending": (
        "Step {step} of {steps}: measuring the loss and drawing the last samples …",
        "第 {step} / {steps} 步：正在计算损失并生成最后一批样本……",
    ),
    "training.finished": (
        "Finished: {step} {step?step:steps} in {seconds} s, held-out loss {loss}.",
        "完成：{step} 步，用时 {seconds} 秒，留出集损失 {loss}。",
    ),
    "training.time": (
        "Time is up: {step} {step?step:steps} in {seconds} s, held-out loss {loss}.",
        "时间到：{step} 步，用时 {seconds} 秒，留出集损失 {loss}。",
    ),
    "training.stopped": ("Stopped at step {step}, loss {loss}.", "停在第 {step} 步，损失 {loss}。"),
    "training.unstarted": ("Stopped before the first step.", "在第一步之前已停止。"),
    "training.late": (
        "Ended at step {step} after {seconds} s, the most that this server allows.",
        "停在第 {step} 步：已达到服务器允许的上限 {seconds} 秒。",
    ),
    "training.left": (
        "Ended at step {step}, because the server lost contact with this page.",
        "已在第 {step} 步结束：服务器与本页失去了联系。",
    ),
    "training.failed": (
        "The training ended unexpectedly. Please try again.",
        "训练意外终止，请重试。",
    ),
    "training.quiz": (
        "The loss begins at 1. After which share of the training had it come half of the way down to its end?",
        "损失从 1 开始。它降到终点的一半路程，用了整个训练的多少？",
    ),
    "training.quiz.twentieth": ("about 5% or less", "约 5% 或更少"),
    "training.quiz.quarter": ("about 25%", "约 25%"),
    "training.quiz.half": ("about 50%", "约 50%"),
    "training.quiz.answer": (
        "By step {step} of {steps}, {percent} of the training, the loss of this model had fallen from 1 to {loss}; at "
        "the end it was {end}. All the rest of the training works on the last {rest}, which decides how samples look.",
        "到第 {step} 步（共 {steps} 步，占训练的 {percent}），这个模型的损失已从 1 降到 {loss}，最后为 {end}。"
        "其余的训练都花在最后的 {rest} 上，而样本的好坏正由它决定。",
    ),
}
