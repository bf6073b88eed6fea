"""Tab "Forward", and the picker of pictures that other tabs share."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    "forward.question": ("How does a picture become noise?", "图像怎样变成噪声？"),
    "forward.body": (
        "At every step $t$, the forward process blends a little more [Gaussian noise](eps) $\\epsilon$ into a "
        "[picture](x0) $x_0$. Nothing is learnt here: one formula gives any [noisy picture](xt) $x_t$, and your "
        "browser evaluates it as you move $t$.",
        "每一步 $t$，前向加噪都往[图像](x0) $x_0$ 里再混入一点[高斯噪声](eps) $\\epsilon$。这里没有任何学习："
        "一个公式就能给出任意时刻的[加噪图像](xt) $x_t$，浏览器随着你的拖动即时计算。",
    ),
    "forward.try": (
        "Draw something, then move $t$ to the right until you can no longer recognise it. How much [signal](alpha_bar) "
        "$\\bar\\alpha_t$ is left there? Less than you think.",
        "画点什么，把 $t$ 向右拖，直到认不出来为止。那时还剩多少[信号](alpha_bar) $\\bar\\alpha_t$？比你以为的要少。",
    ),
    "forward.why": (
        "Why square roots? The squares of the two weights add up to 1, so data of unit variance keep unit variance at "
        "every $t$.||Why can we jump to any $t$? A sum of independent Gaussian variables is Gaussian again: the noise "
        "of all steps up to $t$ combines into a single $\\epsilon$, and their shrinking factors combine into "
        "$\\bar\\alpha_t=\\prod_{s\\le t}(1-\\beta_s)$.||Why so many steps? Sampling starts from $\\mathcal N(0,I)$, "
        "so $x_T$ must contain almost nothing of $x_0$. The histogram shows how closely the pixels of $x_t$ follow "
        "this distribution.",
        "为什么用平方根？两个权重的平方和为 1，因此方差为 1 的数据在任意 $t$ 上方差都保持为 1。||"
        "为什么可以一步到达任意 $t$？独立高斯变量之和仍是高斯变量：前 $t$ 步的噪声合并成一个 $\\epsilon$，"
        "各步的缩放合并成 $\\bar\\alpha_t=\\prod_{s\\le t}(1-\\beta_s)$。||为什么要这么多步？"
        "采样从 $\\mathcal N(0,I)$ 开始，因此 $x_T$ 中的 $x_0$ 必须几乎不剩。"
        "直方图显示 $x_t$ 的像素与这个分布有多接近。",
    ),
    "forward.x0": ("draw here", "在这里画"),
    "forward.x0.label": (
        "Clean picture x_0: draw with the pointer, or choose an example below",
        "干净图像 x_0：用指针绘制，或在下方选择示例",
    ),
    "forward.eps": ("noise", "噪声"),
    "forward.eps.label": ("Gaussian noise epsilon", "高斯噪声 epsilon"),
    "forward.xt": ("noisy picture", "加噪图像"),
    "forward.xt.label": ("Noisy picture x_t at t = {t}, SNR {snr} dB", "加噪图像 x_t，t = {t}，信噪比 {snr} dB"),
    "forward.examples": ("Examples", "示例"),
    "forward.example": ("example {i}", "示例 {i}"),
    "forward.clear": ("Clear", "清空"),
    "forward.ink": ("Colour of the pen", "画笔颜色"),
    "forward.ink.black": ("Black", "黑色"),
    "forward.ink.white": ("White", "白色"),
    "forward.ink.red": ("Red", "红色"),
    "forward.ink.orange": ("Orange", "橙色"),
    "forward.ink.yellow": ("Yellow", "黄色"),
    "forward.ink.green": ("Green", "绿色"),
    "forward.ink.blue": ("Blue", "蓝色"),
    "forward.ink.brown": ("Brown", "棕色"),
    "forward.ink.other": ("Another colour", "其他颜色"),
    "forward.upload": ("Upload", "上传"),
    "forward.upload.label": (
        "Upload a picture, drop it on the canvas or paste it; it stays in your browser",
        "上传图片，也可以拖到画板上或直接粘贴；图片只留在你的浏览器里",
    ),
    "forward.upload.drawing": (
        "{name}: the drawing was found, cropped and centred like the pictures that this model knows.",
        "已从 {name} 中找出笔画，并按模型见过的图像裁剪、居中。",
    ),
    "forward.upload.drawing.undo": ("Use the picture as it is", "改用原图"),
    "forward.upload.as_is": ("{name} is shown as it is.", "{name} 按原样显示。"),
    "forward.upload.as_is.undo": ("Crop and centre the drawing", "裁剪并居中笔画"),
    "forward.upload.inverted": (
        "{name} was inverted: this model’s pictures are bright on dark",
        "{name} 已反色：这个模型的图像是暗底亮字",
    ),
    "forward.upload.failed": (
        "This browser cannot read {name} as a picture; PNG, JPEG, WebP, GIF, BMP and AVIF are read",
        "浏览器无法把 {name} 读成图片；支持 PNG、JPEG、WebP、GIF、BMP 和 AVIF",
    ),
    "forward.upload.pasted": ("the pasted picture", "粘贴的图片"),
    "forward.noise": ("New noise", "换一份噪声"),
    "forward.waiting": ("The model is drawing its own examples …", "模型正在生成示例……"),
    # schedules
    "forward.schedule": ("Schedule to compare with", "用来比较的噪声调度"),
    "forward.other.label": (
        "The same picture with the same noise under another schedule, {name}, at t = {t}, SNR {snr} dB",
        "同一张图像、同一份噪声，换用另一种噪声调度（{name}），t = {t}，信噪比 {snr} dB",
    ),
    "forward.own": (
        "This model ({name}): signal and noise are equal (0 dB) at {even}; {late} of {T} steps {late?has:have} almost "
        "no signal left (below −20 dB).",
        "本模型（{name}）：在 {even} 处信号与噪声相等（0 dB）；{T} 步中有 {late} 步几乎没有信号（低于 −20 dB）。",
    ),
    "forward.longer": (
        "The {name} schedule keeps the signal longer (0 dB at {even}); {late} of {T} steps {late?is:are} below −20 dB.",
        "{name}调度保留信号更久（在 {even} 处为 0 dB）；{T} 步中有 {late} 步低于 −20 dB。",
    ),
    "forward.shorter": (
        "The {name} schedule loses the signal sooner (0 dB at {even}); {late} of {T} steps {late?is:are} below −20 dB.",
        "{name}调度更早失去信号（在 {even} 处为 0 dB）；{T} 步中有 {late} 步低于 −20 dB。",
    ),
    "forward.alike": (
        "The {name} schedule, too, reaches 0 dB at {even}; {late} of {T} steps {late?is:are} below −20 dB.",
        "{name}调度同样在 {even} 处为 0 dB；{T} 步中有 {late} 步低于 −20 dB。",
    ),
    "schedule.own": ("custom schedule", "自定义调度"),
    "schedule.linear": ("linear", "线性"),
    "schedule.linear.see": (
        "Linear: $\\beta_t$ grows by the same amount at every step, as in the paper.",
        "线性：$\\beta_t$ 每步增加相同的量，与论文相同。",
    ),
    "schedule.squaredcos_cap_v2": ("cosine", "余弦"),
    "schedule.squaredcos_cap_v2.see": (
        "Cosine: $\\bar\\alpha_t$ follows a squared cosine, almost straight in the middle and flat at both ends, so "
        "few steps are spent where nothing is left of the picture.",
        "余弦：$\\bar\\alpha_t$ 沿余弦平方曲线下降，中段近似直线，两端平缓，因此很少有步数花在图像已荡然无存的地方。",
    ),
    "schedule.scaled_linear": ("scaled linear", "缩放线性"),
    "schedule.scaled_linear.see": (
        "Scaled linear: $\\sqrt{\\beta_t}$ is linear instead of $\\beta_t$. The end values are the same, so every "
        "step in between adds less noise. Latent diffusion models use this form.",
        "缩放线性：呈线性的是 $\\sqrt{\\beta_t}$ 而不是 $\\beta_t$，两端相同，因此中间每步加入的噪声更少。"
        "潜在扩散模型采用这种形式。",
    ),
    "schedule.sigmoid": ("sigmoid", "S 形"),
    "schedule.sigmoid.see": (
        "Sigmoid: $\\beta_t$ follows an S-curve between nearly the same end values, so the noise sets in late and "
        "then grows fast.",
        "S 形：$\\beta_t$ 在几乎相同的两端之间呈 S 形上升，噪声来得晚，随后增长很快。",
    ),
    "schedule.laplace": ("Laplace", "拉普拉斯"),
    "schedule.laplace.see": (
        "Laplace: $\\beta_t$ is smallest in the middle, so most steps are spent where signal and noise are about "
        "equal. As diffusers implements it, 3% of the signal ($\\bar\\alpha_T$) is left at the end.",
        "拉普拉斯：$\\beta_t$ 在中间最小，因此大部分步数花在信号与噪声大致相当的地方。按 diffusers 的实现，"
        "最后还剩 3% 的信号（$\\bar\\alpha_T$）。",
    ),
    "schedule.zero_snr": ("zero SNR", "零信噪比"),
    "schedule.zero_snr.see": (
        "Zero terminal SNR: the linear schedule is rescaled so that $\\bar\\alpha_T$ is exactly 0. Then $x_T$ is the "
        "pure noise that sampling starts from.",
        "零终端信噪比：线性调度经缩放，使 $\\bar\\alpha_T$ 恰好为 0。此时 $x_T$ 正是采样起点的纯噪声。",
    ),
    "schedule.log_snr": ("log-linear SNR", "对数线性信噪比"),
    "schedule.log_snr.see": (
        "Log-linear SNR: the log of the signal-to-noise ratio falls by the same amount at every step. Then every term "
        "of the bound has the same weight, so the simple loss is the bound.",
        "对数线性信噪比：信噪比的对数每步下降相同的量。这样上界的每一项权重都相同，简化损失就是变分上界。",
    ),
    # charts
    "chart.beta": ("noise per step", "每步加入的噪声"),
    "chart.alpha_bar": ("remaining signal", "剩余信号"),
    "chart.snr": ("signal to noise", "信噪比"),
    "chart.histogram": ("pixels of $x_t$ and $\\mathcal N(0,1)$", "$x_t$ 的像素与 $\\mathcal N(0,1)$"),
    "chart.histogram.label": (
        "Histogram of the pixels of x_t with the standard normal density",
        "x_t 像素直方图与标准正态密度",
    ),
    "forward.quiz": ("At which $t$ do you stop seeing the picture?", "到哪个 $t$ 你就看不出图像了？"),
    "forward.quiz.guess": ("My guess: $t=$", "我猜：$t=$"),
    "forward.quiz.answer": (
        "From $t={even}$ on, the noise is stronger than the contrast of this picture. At your $t={guess}$, the pixels "
        "of $x_t$ and $x_0$ have a correlation of {here}, and at $t={faint}$ it falls below 0.1. The eye adds up many "
        "pixels, so it sees shapes long after single pixels say nothing.",
        "从 $t={even}$ 起，噪声强于这张图像的对比度。在你猜的 $t={guess}$，$x_t$ 与 $x_0$ 的像素相关系数为 {here}；"
        "到 $t={faint}$ 它降到 0.1 以下。人眼会综合许多像素，因此单个像素早已说明不了什么时，仍能看出形状。",
    ),
    "forward.quiz.never": (
        "Even at $t=T$ the pixels of $x_t$ and of this picture have a correlation of {end}; at your $t={guess}$ it is "
        "{here}.",
        "即使在 $t=T$，$x_t$ 与这张图像的像素相关系数仍有 {end}；在你猜的 $t={guess}$ 为 {here}。",
    ),
    "forward.quiz.blank": (
        "This picture is all of one colour: draw something first.",
        "这张图像只有一种颜色，请先画点什么。",
    ),
}
