"""Tab "From my picture"."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    "mine.question": ("How much of my picture survives?", "我的图像还剩下什么？"),
    "mine.body": (
        "Add noise to [your picture](x0) up to $t_0$, then let the network remove it. What the [noisy picture](xt) "
        "still shows stays; the network [makes up](denoised) what is lost, differently each time.",
        "把[你的图像](x0)加噪到 $t_0$，再让网络把噪声去掉。在[加噪图像](xt)中仍看得见的会保留下来；"
        "已经丢失的由网络[重新生成](denoised)，每次都不一样。",
    ),
    "mine.try": (
        "Denoise from a small, a medium and a large $t_0$: at which of them does your picture become another? Then "
        "choose “Between two pictures”: where does one turn into the other?",
        "分别从较小、中等和较大的 $t_0$ 去噪：从哪一个开始，你的图像会变成另一张？再选“两张图像之间”："
        "到哪里一张会变成另一张？",
    ),
    "mine.why": (
        "Why do the results differ? They all start from the same $x_{t_0}$, but every reverse process draws its own "
        "$\\sigma_t z$. DDIM with $\\eta=0$ and DPM-Solver++ draw none, so all their results are the same.||Why not "
        "simply blend the pixels? Both pictures get the same $\\epsilon$, so $\\bar x_{t_0}$ is their blend with "
        "noise added. The noise hides the double exposure, and the network finds a picture of a kind it knows that "
        "could lie under it (Figure 8 of the paper). All points on the line also get the same noise during "
        "denoising, so only $\\lambda$ makes them differ.||What is the number under a result? It is the root mean "
        "square of its difference from the original, before noise was added, in levels from 0 to 255. It grows with "
        "$t_0$ and then levels off: two unrelated pictures are about that far apart.",
        "为什么结果各不相同？它们都从同一个 $x_{t_0}$ 出发，但每次反向去噪各自抽取 $\\sigma_t z$。"
        "$\\eta=0$ 的 DDIM 和 DPM-Solver++ 不抽取噪声，所以它们的结果全都一样。||为什么不直接混合像素？"
        "两张图像加的是同一个 $\\epsilon$，所以 $\\bar x_{t_0}$ 就是混合图像加噪后的样子。噪声遮住了重影，"
        "网络便在它所熟悉的图像中找出一张可能藏在下面的（论文图 8）。直线上各点后续的噪声也相同，"
        "因此差别只来自 $\\lambda$。||结果下面的数字是什么？是结果与加噪前图像之差的均方根，以 0 到 255 的灰度级计。"
        "它随 $t_0$ 增大，然后不再变化：两张毫不相干的图像之间大约就是这么远。",
    ),
    "mine.kind": ("What to denoise", "对什么去噪"),
    "mine.kind.several": ("One picture, several times", "一张图像，多次去噪"),
    "mine.kind.between": ("Between two pictures", "两张图像之间"),
    "mine.xt": ("noised to $t_0$", "加噪到 $t_0$"),
    "mine.xt.label": ("The picture noised to t = {t}, SNR {snr} dB", "加噪到 t = {t} 的图像，信噪比 {snr} dB"),
    "mine.x0_second": ("the second", "第二张"),
    "mine.x0_second.label": ("The second picture", "第二张图像"),
    "mine.swap": ("Swap both to choose the second", "交换两张，以选择第二张"),
    "mine.mixture": ("blend of pixels, with its $\\lambda$", "像素直接混合，下为 $\\lambda$"),
    "mine.mixture.label": ("Blends of the two pictures", "两张图像的混合"),
    "mine.mixture.one": ("blend, lambda = {share}", "混合，lambda = {share}"),
    "mine.xt_mixture": ("noised to $t_0$", "加噪到 $t_0$"),
    "mine.xt_mixture.label": ("The blends, noised", "加噪后的混合图像"),
    "mine.xt_mixture.one": ("noised blend, lambda = {share}", "加噪后的混合，lambda = {share}"),
    "mine.denoised": ("denoised from $t_0={t0}$", "从 $t_0={t0}$ 去噪"),
    "mine.denoised.labelled": (
        "denoised from $t_0={t0}$ with label {name}, $s={s}$",
        "从 $t_0={t0}$ 去噪，标签 {name}，$s={s}$",
    ),
    "mine.denoised.label": (
        "Results, each with its distance from the original, in levels from 0 to 255",
        "去噪结果，各附与加噪前图像的距离（0 到 255 的灰度级）",
    ),
    "mine.denoised.one": (
        "result {i}: {distance} {distance?level:levels} away from the original",
        "结果 {i}：与加噪前图像相差 {distance} 级",
    ),
    "mine.distance": ("numbers: distance from the original, out of 255", "数字：与加噪前图像的距离（满值 255）"),
    "mine.denoise": ("Denoise", "去噪"),
    "mine.drawing": ("Denoising a first example …", "正在计算第一个示例……"),
    "mine.example": ("Stored example: {summary}", "预先算好的示例：{summary}"),
    "mine.done": ("{summary}.", "{summary}。"),
    "mine.summary": (
        "{n} {n?picture:pictures} from t₀ = {t0} in {steps} {steps?step:steps}{label}, seed {seed}, {seconds} s",
        "从 t₀ = {t0} 用 {steps} 步得到 {n} 张图像{label}，种子 {seed}，{seconds} 秒",
    ),
    "mine.changed": (
        "These results belong to another picture, noise or t₀: denoise again.",
        "下面的结果属于另一张图像、另一份噪声或另一个 t₀，请重新去噪。",
    ),
    "mine.stopped": ("Stopped at step {step} of {steps}.", "停在第 {step} / {steps} 步。"),
}
