"""Tab "From my picture"."""

from __future__ import annotations

# The paragraphs of "mine.why" and "mine.between.why".
_DIFFER = (
    "Why do the results differ? They all start from the same $x_{t_0}$, but every reverse process draws its "
    "own $\\sigma_t z$. DDIM and DPM-Solver++ with $\\eta=0$ draw none, so all their results are the same.",
    "为什么结果各不相同？它们都从同一个 $x_{t_0}$ 出发，但每次反向去噪各自抽取 $\\sigma_t z$。$\\eta=0$ 时，DDIM"
    " 和 DPM-Solver++ 都不抽取噪声，所以它们的结果全都一样。",
)
_BLEND = (
    "Why not simply blend the pixels? Both pictures get the same $\\epsilon$, so $\\bar x_{t_0}$ is their blend "
    "with noise added. The noise hides the double exposure, and the network finds a picture of a kind it "
    "knows that could lie under it (Figure 8 of the paper). All points on the line also get the same noise "
    "during denoising, so only $\\lambda$ makes them differ.",
    "为什么不直接混合像素？两张图像加的是同一个 $\\epsilon$，所以 $\\bar x_{t_0}$ 就是混合图像加噪后的样子。噪"
    "声遮住了重影，网络便在它所熟悉的图像中找出一张可能藏在下面的（论文图 8）。直线上各点后续的噪声也相同，因"
    "此差别只来自 $\\lambda$。",
)
_WALK = (
    "What is the last row? DDIM run backwards turns each of the two pictures into its own noise, $z$ and $z'$ "
    "(see “Into noise and back”). The row walks along the arc between them, "
    "$z_\\lambda=\\frac{\\sin((1-\\lambda)\\theta)}{\\sin\\theta}z+\\frac{\\sin(\\lambda\\theta)}{\\sin\\theta}z'$ "
    "with the angle $\\theta$ between both, and DDIM turns every point into a picture. On the arc noise keeps its "
    "length; in the middle of a straight line it would be too short. $t_0$ and seed play no part in it.",
    "最后一行是什么？把 DDIM 倒过来运行，两张图像各自变成一份噪声 $z$ 和 $z'$（见“变成噪声再还原”）。这一行沿"
    "着两者之间的圆弧走：$z_\\lambda=\\frac{\\sin((1-\\lambda)\\theta)}{\\sin\\theta}z+\\frac{\\sin(\\lambda\\theta)}{\\s"
    "in\\theta}z'$，$\\theta$ 是二者的夹角，每一点再由 DDIM 还原成图像。在圆弧上噪声的长度不变，走直线则中间会"
    "变短。这一行与 $t_0$ 和种子无关。",
)
_DISTANCE = (
    "What is the number under a result? It is the root mean square of its difference from the original, "
    "before noise was added, in levels from 0 to 255. It grows with $t_0$ and then levels off: two unrelated "
    "pictures are about that far apart.",
    "结果下面的数字是什么？是结果与加噪前图像之差的均方根，以 0 到 255 计。它随 $t_0$ 增大，然后不再"
    "变化：两张毫不相干的图像之间大约就是这么远。",
)


def _paragraphs(*pairs: tuple[str, str]) -> tuple[str, str]:
    """Several texts as the paragraphs of one, in both languages."""
    english, chinese = zip(*pairs, strict=True)
    return "||".join(english), "||".join(chinese)


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
    "mine.why": _paragraphs(_DIFFER, _DISTANCE),
    "mine.between.why": _paragraphs(_DIFFER, _BLEND, _WALK, _DISTANCE),
    "mine.fill.question": ("What belongs in the hole?", "缺口里该是什么？"),
    "mine.fill.body": (
        "[Erase a part](torn) of your picture. After each step the known pixels are put back, noised to that $t$, and "
        "the network fills in the rest. [Without jumps](plain) the rest fits them badly. [With jumps](filled) the same "
        "steps are taken again and again, and it comes to fit.",
        "把图像[擦掉一部分](torn)。每走一步，已知像素都换成原图加噪到该 $t$ 的样子，其余由网络补出。"
        "[不回跳](plain)时补出的部分与周围不太吻合；[回跳](filled)则反复重走同样的几步，二者逐渐吻合。",
    ),
    "mine.fill.try": (
        "Follow the edge of the hole in both rows: where do strokes break off? Then erase all but a small part: how "
        "many different pictures still fit it?",
        "沿着缺口边缘比较两行：笔画在哪里断开？再只留下一小部分：还有多少种不同的图像与它吻合？",
    ),
    "mine.fill.why": (
        "Why jump back? The known pixels are noised afresh at every $t$. What the network has just filled in belongs "
        "to the noise that they had one step before, so the two do not match, and the few steps that are left cannot "
        "mend it. A jump adds noise to the whole picture, known part and rest alike, as the forward process does. "
        "The network then sees both at once and can harmonise them, $r$ times at each place (RePaint, Lugmayr et al. "
        "2022, Algorithm 1).||What does it cost? Ten jumps over ten steps each make the sampling about ten times as "
        "long. The paper counts how often each stretch is taken: $r=1$ is without jumps.||What stays? All known "
        "pixels: in the result they are those of your picture, to the byte. The network was never trained to fill "
        "in; only the sampler is another one.",
        "为什么要回跳？已知像素在每个 $t$ 都重新加噪，而网络刚补出的部分对应的是它们上一步的噪声，所以二者对不上，"
        "剩下的几步也来不及弥补。回跳像前向加噪那样给整张图像加噪，已知部分和其余部分一视同仁；网络便能同时看到两者，"
        "使之协调，每处如此 $r$ 次（RePaint，Lugmayr 等，2022，算法 1）。||代价是什么？每处回跳 10 次、每次 10 步，"
        "采样大约要花 10 倍的时间。论文数的是每段走了几遍：$r=1$ 就是不回跳。||什么保持不变？所有已知像素："
        "结果中它们与你的图像逐字节相同。网络从未为修补而训练，变的只是采样方法。",
    ),
    "mine.invert.question": ("Which noise is my picture?", "我的图像对应哪份噪声？"),
    "mine.invert.body": (
        "Without fresh noise, DDIM can be run in both directions: from [your picture](x0) to [its noise](code), and "
        "[back](decoded). Every step is a straight line along a curved path, so the picture comes back with an error: "
        "the more steps, the smaller it is.",
        "不加新噪声的 DDIM 可以双向运行：从[你的图像](x0)到[它的噪声](code)，再[还原](decoded)。"
        "每一步都用直线代替弯曲的路径，所以还原的图像有误差：步数越多，误差越小。",
    ),
    "mine.invert.try": (
        "Compare the errors: by how much do they shrink as the steps double? Then look at the noise of a digit: can "
        "you still see where the digit was?",
        "比较各个误差：步数加倍时缩小多少？再看数字的噪声：还能看出数字原来在哪里吗？",
    ),
    "mine.invert.why": (
        "Why does this work? With $\\eta=0$, a step of DDIM adds no noise, and in the limit of many steps it follows "
        "a differential equation (Song et al. 2020, Eq. 13 and 14). An equation can be followed from either end; its "
        "solution is one noise for each picture, and one picture for each noise.||Why is there an error? Euler’s "
        "method takes the network’s answer at one end of a step for the whole step, and on the way back it starts "
        "from the other end. That error halves as the steps double.||Why does the noise not look like other noise? A "
        "model of digits has learnt that the background is exactly black. A picture that is exactly that lies in the "
        "very middle of all its noisy versions, so its background becomes a noise of nearly zero.",
        "为什么可行？$\\eta=0$ 时 DDIM 的每一步都不加噪声；步数很多时，它沿着一个微分方程走（Song 等，2020，式 13 和 "
        "14）。方程从哪一端出发都可以：每张图像对应一份噪声，每份噪声也对应一张图像。||误差从何而来？欧拉法用一步某一"
        "端的网络预测代表整个一步，而返回时用的是另一端。步数加倍，误差减半。||为什么这份噪声看上去与别的噪声不同？数"
        "字模型学到背景是纯黑的。恰好纯黑的图像位于它所有加噪版本的正中，所以背景对应的噪声几乎为零。",
    ),
    "mine.kind": ("What to denoise", "对什么去噪"),
    "mine.kind.several": ("One picture, several times", "一张图像，多次去噪"),
    "mine.kind.between": ("Between two pictures", "两张图像之间"),
    "mine.kind.fill": ("Erase and fill in", "擦除并修补"),
    "mine.kind.invert": ("Into noise and back", "变成噪声再还原"),
    "mine.torn": ("erase here", "在此擦除"),
    "mine.torn.label": (
        "The picture from which you erase, {share} % of it erased. Arrow keys move the brush, Space erases, Shift with "
        "an arrow erases a stroke.",
        "可擦除的图像，已擦除 {share}%。方向键移动笔刷，空格键擦除，Shift 加方向键擦出一笔。",
    ),
    "mine.torn.at": (
        "Brush at column {x}, row {y}; {share} % of the picture erased",
        "笔刷在第 {x} 列第 {y} 行；图像已擦除 {share}%",
    ),
    "mine.undo": ("Undo", "撤销"),
    "mine.restore": ("Restore all", "全部恢复"),
    "mine.keys": (
        "Drag over the picture to erase. Keys: arrows move the brush, Space erases, Shift + arrow draws a stroke.",
        "在图像上拖动即可擦除。键盘：方向键移动笔刷，空格擦除，Shift + 方向键画一笔。",
    ),
    "mine.whole": ("Nothing is erased yet, so there is nothing to fill in.", "还没有擦除任何部分，没有可修补的。"),
    "mine.plain": ("filled in without jumps", "不回跳的修补"),
    "mine.plain.label": ("Fillings without jumps", "不回跳的修补结果"),
    "mine.plain.one": ("filling {i} without jumps", "不回跳的修补 {i}"),
    "mine.filled": ("filled in with 10 jumps back from each place", "每处回跳 10 次的修补"),
    "mine.filled.label": ("Fillings with jumps", "回跳的修补结果"),
    "mine.filled.one": ("filling {i} with jumps", "回跳的修补 {i}"),
    "mine.walk": (
        "walk through their noise (slerp), with its $\\lambda$",
        "在二者的噪声之间插值（slerp），下为 $\\lambda$",
    ),
    "mine.walk.label": (
        "Pictures of the noises between those of the two pictures, by spherical interpolation",
        "两张图像的噪声之间的球面线性插值（slerp），各还原成图像",
    ),
    "mine.walk.one": ("walk, lambda = {share}", "噪声插值，lambda = {share}"),
    "mine.code": ("the noise of the picture, by DDIM run backwards", "图像的噪声（DDIM 反演）"),
    "mine.code.label": ("The noise of the picture, by number of steps", "图像的噪声，按步数"),
    "mine.code.one": ("noise after {n} {n?step:steps}", "{n} 步得到的噪声"),
    "mine.decoded": ("turned back into a picture", "还原的图像"),
    "mine.decoded.label": (
        "The picture that comes back, each with its distance from the original, in levels from 0 to 255",
        "还原的图像，各附与原图的距离（以 0 到 255 计）",
    ),
    "mine.decoded.one": (
        "{n} {n?step:steps} each way: {distance} {distance?level:levels} away from the original",
        "来回各 {n} 步：与原图相差 {distance} 级",
    ),
    "mine.steps": ("{n} {n?step:steps}", "{n} 步"),
    "mine.go.fill": ("Fill in", "修补"),
    "mine.go.invert": ("Encode", "反演"),
    "mine.drawing.fill": ("Filling in a first example …", "正在修补第一个示例……"),
    "mine.drawing.invert": ("Turning a first picture into noise …", "正在把第一张图像变成噪声……"),
    "mine.summary.fill": (
        "{n} {n?filling:fillings} in {steps} {steps?step:steps}{label}, seed {seed}: {plain} s without jumps, "
        "{jumping} s with {jumps}",
        "{steps} 步修补 {n} 次{label}，种子 {seed}：不回跳 {plain} 秒，回跳 {jumps} 次 {jumping} 秒",
    ),
    "mine.summary.invert": (
        "to noise and back ({seconds} s in all){label}",
        "变成噪声再还原（共 {seconds} 秒）{label}",
    ),
    "mine.changed.fill": (
        "These fillings belong to another picture or another erased part: fill in again.",
        "下面的结果属于另一张图像或另一处擦除，请重新修补。",
    ),
    "mine.changed.invert": (
        "These results belong to another picture: encode again.",
        "下面的结果属于另一张图像，请重新反演。",
    ),
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
        "去噪结果，各附与加噪前图像的距离（以 0 到 255 计）",
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
    "mine.quiz": (
        "How far from your picture will the denoised pictures be, in levels of 255?",
        "去噪后的图像会与你的图像相差多少级（共 255 级）？",
    ),
    "mine.fill.quiz": (
        "In which row do pixels differ less from their neighbours across the edge of the hole?",
        "在缺口边缘，哪一行的像素与相邻像素相差更小？",
    ),
    "mine.fill.quiz.plain": ("without jumps, $r=1$", "不回跳，$r=1$"),
    "mine.fill.quiz.jumping": ("with jumps, $r=11$", "回跳，$r=11$"),
    "mine.fill.quiz.answer": (
        "Across the edge, neighbours differ by {plain} of 255 levels without jumps, and by {jumping} with them, "
        "on average over {n} {n?filling:fillings} each.",
        "缺口边缘两侧的相邻像素平均相差：不回跳 {plain} 级，回跳 {jumping} 级（共 255 级，各取 {n} 张）。",
    ),
    "mine.fill.quiz.whole": (
        "The whole picture was erased, so the hole has no edge.",
        "整张图像都已擦除，缺口没有边缘。",
    ),
    "mine.invert.quiz": (
        "How far from your picture is the one that comes back after the fewest steps, in levels of 255?",
        "步数最少时，还原的图像会与你的图像相差多少级（共 255 级）？",
    ),
    "mine.invert.quiz.near": ("less than 5", "小于 5"),
    "mine.invert.quiz.medium": ("5 to 30", "5 到 30"),
    "mine.invert.quiz.far": ("more than 30", "大于 30"),
    "mine.invert.quiz.answer": (
        "In {few} {few?step:steps} each way it comes back {most} levels of 255 away (root mean square), and in {many} "
        "{many?step:steps} {least}.",
        "来回各 {few} 步时相差 {most} 级（均方根），各 {many} 步时相差 {least} 级。",
    ),
    "mine.quiz.near": ("less than 20", "小于 20"),
    "mine.quiz.medium": ("20 to 60", "20 到 60"),
    "mine.quiz.far": ("more than 60", "大于 60"),
    "mine.quiz.answer": (
        "From $t_0={t0}$ they are {least} to {most} levels of 255 away (root mean square). There, {percent} of the "
        "variance of $x_{t_0}$ comes from your picture, and the rest is noise.",
        "从 $t_0={t0}$ 出发，相差 {least} 到 {most} 级（均方根）。此处 $x_{t_0}$ 的方差有 {percent} 来自你的图像，"
        "其余是噪声。",
    ),
}
