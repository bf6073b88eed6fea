"""Tab "What goes wrong"."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    "wrong.question": ("What if one line is wrong?", "写错一行会怎样？"),
    "wrong.body": (
        "Algorithm 2 is short, and each of its lines is easy to get wrong. Below, the same network samples twice from "
        "the same [noise](xt): once correctly and once with a mistake.",
        "算法 2 很短，但每一行都容易写错。下面，同一个网络从同一份[噪声](xt)采样两遍：一遍正确，一遍带有错误。",
    ),
    "wrong.try": (
        "Choose “T too short” and move its slider: below which $t$ do the pictures suffer?",
        "选择“T 太短”并拖动它的滑块：低于哪个 $t$ 时图像开始变坏？",
    ),
    "wrong.why": (
        "Why is fresh noise needed? $p(x_{t-1}|x_t)$ is a distribution, and its mean alone leaves too little "
        "variance at $t-1$. The network sees less noise than it expects there, treats $x_{t-1}$ as a smoother "
        "picture, and the paths end at simpler pictures that are more alike.||Why clip? At $t=T$ an error in "
        "$\\hat\\epsilon$ reaches $\\hat x_0$ multiplied by $\\sqrt{(1-\\bar\\alpha_t)/\\bar\\alpha_t}$. Pixels out "
        "of range cannot be right, so clipping only removes errors. A network with small errors works without "
        "clipping; an early checkpoint or guided sampling does not.||Why no noise at the last step? No later step "
        "could remove it. The small variance hides this mistake, because $\\tilde\\beta_1=0$.||Why must $T$ be long? "
        "Sampling starts from pure noise, but in training, $x_t$ at this $t$ always contained some signal "
        "$\\sqrt{\\bar\\alpha_t}\\,x_0$. So the network finds a signal in noise that has none.",
        "为什么需要新噪声？$p(x_{t-1}|x_t)$ 是一个分布，只取均值的话，$t-1$ 处的方差就太小。"
        "网络在那里看到的噪声比它预期的少，便把 $x_{t-1}$ 当成更平滑的图像，"
        "各条路径最终得到更简单、彼此更相似的图像。||为什么要截断？"
        "在 $t=T$ 处，$\\hat\\epsilon$ 的误差乘以 $\\sqrt{(1-\\bar\\alpha_t)/\\bar\\alpha_t}$ 后进入 $\\hat x_0$。"
        "超出范围的像素不可能正确，截断只会去掉误差。误差小的网络不截断也行；训练初期的检查点或引导采样则不行。||"
        "为什么最后一步不加噪声？之后再没有步骤能去掉它。小方差会掩盖这个错误，因为 $\\tilde\\beta_1=0$。||"
        "为什么 $T$ 要足够长？采样从纯噪声开始，"
        "但训练时这个 $t$ 处的 $x_t$ 总含有一些信号 $\\sqrt{\\bar\\alpha_t}\\,x_0$。"
        "于是网络会从没有信号的噪声里找出信号来。",
    ),
    "wrong.fault": ("Which mistake", "哪种错误"),
    "wrong.no_noise": ("No fresh noise", "不加新噪声"),
    "wrong.fault.no_noise": ("No fresh noise at any step", "每一步都不加新噪声"),
    "wrong.no_noise.see": (
        "Whatever their noise, the paths end at simpler pictures that are more alike: variety is lost.",
        "无论噪声如何，各条路径都走到更简单、彼此更相似的图像：多样性减少了。",
    ),
    "wrong.no_clip": ("No clipping", "不截断"),
    "wrong.fault.no_clip": ("No clipping of x_0 hat", "不截断 x_0 hat"),
    "wrong.no_clip.see": (
        "At the noisy end the [guesses](x0_hat) $\\hat x_0$ reach far beyond the pixels’ $\\pm1$, as the number under "
        "each row shows (the pictures are cut off at black and white). A network with small errors tolerates this: "
        "with the built-in one, hardly any difference is visible at $t=0$.",
        "在噪声端，[猜测](x0_hat) $\\hat x_0$ 远远超出像素的 $\\pm1$，见每行下方的数字（图像显示时截止于纯黑和纯白）。"
        "误差小的网络能容忍：用内置网络，在 $t=0$ 处几乎看不出差别。",
    ),
    "wrong.last_noise": ("Wrong σ at the end", "最后一步的 σ 错误"),
    "wrong.fault.last_noise": (
        "Wrong variance at the end: noise in the finished picture",
        "最后一步的方差错误：最终图像里还有噪声",
    ),
    "wrong.last_noise.see": (
        "The finished pictures ($t=0$) are grainy, most visibly where they should have a single colour. Before that, "
        "both rows are the same.",
        "最终图像（$t=0$）有颗粒，在本应是纯色的地方最明显。在此之前两行完全相同。",
    ),
    "wrong.few_steps": ("Too few steps", "步数太少"),
    "wrong.fault.few_steps": ("Too few steps", "步数太少"),
    "wrong.few_steps.see": (
        "Strokes are blurred, and several shapes overlap: a [guess](x0_hat) $\\hat x_0$ is the average of all "
        "pictures that $x_t$ may still become, and a few steps are not enough to settle on one of them.",
        "笔画模糊，几种形状叠在一起：[猜测](x0_hat) $\\hat x_0$ 是 $x_t$ 仍可能变成的所有图像的平均，"
        "几步不足以从中选定一种。",
    ),
    "wrong.few_steps.amount": ("Steps: {value}", "步数：{value}"),
    "wrong.short_T": ("T too short", "T 太短"),
    "wrong.fault.short_T": ("T too short: sampling starts from pure noise halfway", "T 太短：在半路从纯噪声开始采样"),
    "wrong.short_T.see": (
        "The row starts from pure noise at $t={t}$, where $x_t$ should still contain {signal} times the picture. The "
        "smaller this $t$ is, the thicker and the more shapeless the strokes get.",
        "这一行在 $t={t}$ 处从纯噪声开始，而那里的 $x_t$ 本应还含有 {signal} 倍的原图像。"
        "这个 $t$ 越小，笔画越粗、越不成形。",
    ),
    "wrong.short_T.amount": ("Start at t = {value}", "从 t = {value} 开始"),
    "wrong.right": ("Correct", "正确"),
    "wrong.wrong": ("With the mistake", "带有错误"),
    "wrong.again": ("New noise", "换一份噪声"),
    "wrong.before": ("These are still the pictures of: {name}", "这里仍是此前的图像：{name}"),
    "wrong.done": (
        "Both rows start from the same noise, seed {seed}. Move t to scrub through both.",
        "两行噪声相同，种子 {seed}。拖动 t 可同时回看两行。",
    ),
    "wrong.example": ("Stored example. Move t to scrub through both rows.", "预先算好的示例。拖动 t 可同时回看两行。"),
    "wrong.quiz": (
        "How far do the finished pictures move because of this mistake, if a pixel goes from −1 to 1?",
        "像素取值 −1 到 1。因为这个错误，最终的图像会相差多少？",
    ),
    "wrong.quiz.little": ("less than 0.1", "小于 0.1"),
    "wrong.quiz.some": ("0.1 to 0.5", "0.1 到 0.5"),
    "wrong.quiz.much": ("more than 0.5", "大于 0.5"),
    "wrong.quiz.answer": (
        "The pictures with the mistake are {away} away from those without it (root mean square, same noise). Two "
        "pictures that have nothing to do with each other are {apart} apart here.",
        "有错误与没有错误的图像相差 {away}（均方根，噪声相同）。这里两张毫不相干的图像相差 {apart}。",
    ),
}
