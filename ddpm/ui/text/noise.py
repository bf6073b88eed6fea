"""Tab "Predict the noise"."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    "noise.question": ("What does the network see?", "网络看到了什么？"),
    "noise.body": (
        "The network gets only the [noisy picture](xt) $x_t$ and the number $t$, and has to predict the [noise](eps) "
        "$\\epsilon$ in the picture. This one task, repeated at every $t$, is all of the training.",
        "网络只得到[加噪图像](xt) $x_t$ 和数字 $t$，要预测其中的[噪声](eps) $\\epsilon$。"
        "在各个 $t$ 上反复做这一件事，就是训练的全部。",
    ),
    "noise.try": (
        "Set $t$ to about a third of its range. Draw something unlike anything that the model has learnt, then choose "
        "an example. Where does the [difference](eps_difference) $\\hat\\epsilon-\\epsilon$ show up each time?",
        "把 $t$ 放在约三分之一处。画一个与模型学过的都不同的图案，再选一个示例："
        "[差异](eps_difference) $\\hat\\epsilon-\\epsilon$ 各在哪里显现出来？",
    ),
    "noise.why": (
        "Why is the error large at small $t$? There is hardly any noise in $x_t$ then, and what little there is looks "
        "like texture. At large $t$ almost all of $x_t$ is noise, so predicting it is easy.||Why four readings? $x_t$ "
        "and $\\epsilon$ together determine $x_0$ (Eq. 4), and hence also the mean of the reverse step and $v$. The "
        "network has one output. The readings differ only in how large its error is at each $t$, and so in what a "
        "plain squared loss emphasises.||Why is the [guess](x0_hat) $\\hat x_0$ useless at large $t$? An error in "
        "$\\hat\\epsilon$ is multiplied by $\\sqrt{(1-\\bar\\alpha_t)/\\bar\\alpha_t}$, which exceeds 100 at the "
        "noisy end. Samplers therefore clip $\\hat x_0$ to the range of the pixels; the values here are not clipped.",
        "为什么 $t$ 小时误差大？那时 $x_t$ 里几乎没有噪声，仅有的一点看上去就像纹理。$t$ 大时 $x_t$ 几乎全是噪声，"
        "预测它就很容易。||为什么有四种解读？$x_t$ 和 $\\epsilon$ 一起决定了 $x_0$（式 4），"
        "因此也决定了反向一步的均值和 $v$。网络输出只有一个，不同的只是各个 $t$ 上误差的大小，"
        "普通平方损失的侧重点也随之不同。||为什么 $t$ 大时[猜测](x0_hat) $\\hat x_0$ 没有用？"
        "$\\hat\\epsilon$ 的误差被乘以 $\\sqrt{(1-\\bar\\alpha_t)/\\bar\\alpha_t}$，在噪声端超过 100。"
        "因此采样器会把 $\\hat x_0$ 截断到像素范围；这里的数值没有截断。",
    ),
    "noise.xt": ("network input", "网络的输入"),
    "noise.xt.label": ("Noisy picture x_t at t = {t}, SNR {snr} dB", "加噪图像 x_t，t = {t}，信噪比 {snr} dB"),
    "noise.x0_hat": ("implied $x_0$", "由此推出的 $x_0$"),
    "noise.x0_hat.label": ("Guess x_0 hat at t = {t}", "t = {t} 时的猜测 x_0 hat"),
    "noise.target": ("true value", "真值"),
    "noise.target.label": ("True value: {what}, at t = {t}", "真值：{what}，t = {t}"),
    "noise.prediction": ("prediction", "网络预测"),
    "noise.prediction.label": ("Prediction of the network: {what}, at t = {t}", "网络预测：{what}，t = {t}"),
    "noise.difference": ("difference", "差异"),
    "noise.difference.label": (
        "Difference of the prediction from the true value, {what}, at t = {t}: mean squared error {mse}",
        "网络预测与真值之差，{what}，t = {t}：均方误差 {mse}",
    ),
    "noise.reading": ("One output, read as", "同一个输出，看作"),
    "noise.reading.eps": ("the noise epsilon", "噪声 epsilon"),
    "noise.reading.x0": ("the clean picture x_0", "干净图像 x_0"),
    "noise.reading.mu": ("the mean mu of the reverse step", "反向一步的均值 mu"),
    "noise.reading.v": ("the velocity v", "速度 v"),
    "noise.asking": ("Computing the predictions at {n} {n?timestep:timesteps} …", "正在计算 {n} 个时间步的预测……"),
    "noise.part": ("{done} of {total} {total?timestep:timesteps} …", "{done} / {total} 个时间步……"),
    "noise.done": (
        "The network answered for {n} {n?timestep:timesteps} in one call; moving t needs no new call.",
        "{n} 个时间步的预测已全部算好；拖动 t 不再调用网络。",
    ),
    "noise.done.small": (
        "The network answered for {n} {n?timestep:timesteps}; moving t needs no new call. The pictures show "
        "{small} of {whole} pixels; the error is that of all pixels.",
        "{n} 个时间步的预测已全部算好；拖动 t 不再调用网络。图像只显示 {whole} 像素中的 {small}；误差按全部像素计算。",
    ),
    "chart.mse": ("mean squared error", "均方误差"),
    "noise.quiz": ("At which $t$ is the network’s guess of the noise worst?", "在哪个 $t$ 网络对噪声的预测最差？"),
    "noise.quiz.guess": ("My guess: $t=$", "我猜：$t=$"),
    "noise.quiz.answer": (
        "For this picture it is worst at $t={worst}$, with a squared error of {most}, and best at $t={best}$, with "
        "{least}. At $t={guess}$, which is nearest to your guess, it is {here}. Little noise is hard to find; in pure "
        "noise, everything is noise.",
        "对这张图像，$t={worst}$ 时最差，平方误差为 {most}；$t={best}$ 时最好，为 {least}。"
        "在离你的猜测最近的 $t={guess}$ 处为 {here}。噪声越少越难找；全是噪声时，看到的就都是噪声。",
    ),
}
