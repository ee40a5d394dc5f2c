//! Hidden states and head of a real model, where they are there: SmolLM2-135M, dim 576, vocab 49,152.

use super::{Gradients, objective};
use crate::inputs::Stream;
use rayon::prelude::*;
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use tokenloss::cpu::Cpu;
use tokenloss::divergence::{Distillation, ForwardKl};
use tokenloss::half::bf16;
use tokenloss::{
    Batch, Element, EvaluateLinear, EvaluateLinearPair, Linear, LinearBackend, LinearGradients,
    LinearOptions, Nll, Outputs, PairOutputs, Reduction, RowObjective, RowSummary, Shape, TeacherRows,
    reference,
};

const DIM: usize = 576;
const VOCAB: usize = 49_152;

struct Rows {
    hidden: Vec<bf16>,
    targets: Vec<i32>,
    /// Of exactly these values, in f64, by other means.
    log_p: Vec<f64>,
}

impl Rows {
    fn linear<'a>(&'a self, rows: usize, head: &'a [bf16]) -> Linear<'a, bf16> {
        let batch =
            Batch::new(Shape::new(rows, VOCAB).expect("a shape"), &self.targets[..rows]).expect("a batch");
        Linear::new(batch, DIM, &self.hidden[..rows * DIM], head).expect("a linear form")
    }
}

/// `None`, and said so, where the files are absent.
fn data() -> Option<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let there = data.join("smollm2-135m-lm_head.safetensors").exists();
    if !there {
        println!("linear: not tested on real rows, {} is absent", data.display());
    }
    there.then_some(data)
}

fn tensor<T>(bytes: &[u8], name: &str, of: impl Fn(&[u8]) -> T) -> Vec<T> {
    let tensors = SafeTensors::deserialize(bytes).expect("a safetensors file");
    let tensor = tensors.tensor(name).expect("a tensor");
    let size = tensor.data().len() / tensor.shape().iter().product::<usize>();
    tensor.data().chunks_exact(size).map(of).collect()
}

fn file(data: &Path, name: &str) -> Vec<u8> {
    std::fs::read(data.join(format!("smollm2-135m-{name}.safetensors"))).expect("a file")
}

fn to_bf16(bytes: &[u8]) -> bf16 {
    bf16::from_le_bytes([bytes[0], bytes[1]])
}

fn rows(data: &Path, name: &str) -> Rows {
    let bytes = file(data, name);
    let four = |b: &[u8]| i32::from_le_bytes(b.try_into().expect("four bytes"));
    let eight = |b: &[u8]| f64::from_le_bytes(b.try_into().expect("eight bytes"));
    Rows {
        hidden: tensor(&bytes, "hidden", to_bf16),
        targets: tensor(&bytes, "targets", four),
        log_p: tensor(&bytes, "log_p_f64", eight),
    }
}

#[test]
fn log_p_of_real_rows() {
    let Some(data) = data() else { return };
    let head = tensor(&file(&data, "lm_head"), "lm_head", to_bf16);
    for (name, count) in [("gsm8k", 1024), ("figfont", 256)] {
        let rows = rows(&data, name);
        assert_eq!(rows.targets.len(), count);
        let mut summaries = vec![RowSummary::nan(); count];
        Cpu::new()
            .summarise_linear(&rows.linear(count, &head), &LinearOptions::default(), &mut summaries)
            .expect("finite logits");
        let off = summaries.iter().zip(&rows.log_p).map(|(got, want)| (got.target.log_p - want).abs());
        let worst = off.fold(0.0, f64::max);
        println!("{name}: log_p of {count} rows off by at most {worst:.1e}");
        // Measured: 1.2e-5. A logit is a sum of 576 products.
        assert!(worst <= 2e-4, "{name}: {worst:e}");
        for spec in ["power:alpha=10", "thresholded:inner=nll,lo=0.2"] {
            let objective = objective(spec);
            let is_live = |row: &&RowSummary<f64>| objective.of_row(*row).partials.is_live();
            let live = summaries.iter().filter(is_live).count();
            println!("{name}, {spec}: {live} of {count} rows live, {:.3}", live as f64 / count as f64);
            // The rows by themselves, of the truth: p^10 in f32, and the threshold.
            let want = rows.log_p.iter().map(|log_p| log_p.exp()).filter(|p| match spec {
                "power:alpha=10" => p.powi(10) >= f64::from(f32::MIN_POSITIVE),
                _ => *p >= 0.2,
            });
            assert_eq!(live, want.count(), "{name}, {spec}");
        }
    }
}

/// A student that is off the model by noise in its hidden states, and the model as its teacher.
#[test]
fn divergences_of_real_rows() {
    const ROWS: usize = 12;
    let Some(data) = data() else { return };
    let head = tensor(&file(&data, "lm_head"), "lm_head", to_bf16);
    let rows = rows(&data, "gsm8k");
    let mut s = Stream::new(1);
    let mut noisy = |h: &bf16| <bf16 as Element>::from_f32(h.to_f32() * (0.8 + 0.4 * s.uniform()));
    let student = Rows {
        hidden: rows.hidden[..ROWS * DIM].iter().map(&mut noisy).collect(),
        targets: rows.targets.clone(),
        log_p: vec![],
    };
    let (linear, teacher) = (student.linear(ROWS, &head), rows.linear(ROWS, &head));
    let logits = |linear: &Linear<'_, bf16>, row: usize| {
        let mut z = vec![0.0f64; VOCAB];
        reference::logits_of_row(linear, row, &mut z);
        z
    };
    let distillation = Distillation::new(ForwardKl::new().expect("no parameters"), 1.0).expect("a factor");
    let mut got = vec![0.0f32; ROWS];
    let outputs = PairOutputs { divergences: Some(&mut got), ..PairOutputs::default() };
    let of_teacher = TeacherRows::Linear(teacher.clone());
    let none = LinearGradients::<f32>::default();
    let (sum, options) = (Reduction::Sum, LinearOptions::default());
    Cpu::new()
        .evaluate_linear_pair(&Nll, &distillation, sum, &linear, &of_teacher, &options, none, outputs)
        .expect("finite logits");
    let of_row = |row: usize| {
        let (z, u) = (logits(&linear, row), logits(&teacher, row));
        reference::divergence(distillation.divergence(), 1.0, &z, &u).expect("finite").value
    };
    let want: Vec<_> = (0..ROWS).into_par_iter().map(of_row).collect();
    let mut worst = 0.0f64;
    for (got, want) in got.iter().zip(&want) {
        // Logits are off by 2e-4 at most, as above, and sum_j |p_j - q_j| is at most sqrt(2 D).
        let (off, granted) = ((f64::from(*got) - want).abs(), 2.0 * 2e-4 * (2.0 * want).sqrt() + 1e-6);
        assert!(off <= granted, "{got}, expected {want}");
        worst = worst.max(off / want);
    }
    println!("gsm8k: forward_kl of {ROWS} rows, {:.3} on average, off by {worst:.1e} of it", {
        want.iter().sum::<f64>() / ROWS as f64
    });
}

#[test]
fn dhidden_of_real_rows() {
    const ROWS: usize = 64;
    let Some(data) = data() else { return };
    let head = tensor(&file(&data, "lm_head"), "lm_head", to_bf16);
    let rows = rows(&data, "gsm8k");
    let linear = rows.linear(ROWS, &head);
    let mut got = Gradients::<f32>::new(&linear);
    let wanted = got.wanted([true, false, false]);
    let options = LinearOptions::default();
    let totals =
        Cpu::new().evaluate_linear(&Nll, Reduction::default(), &linear, &options, wanted, Outputs::default());
    assert!(totals.is_ok());

    let wide: Vec<f64> = head.iter().map(|w| w.to_f64()).collect();
    let of_row = |row: usize| {
        let hidden: Vec<f64> = rows.hidden[row * DIM..][..DIM].iter().map(|h| h.to_f64()).collect();
        let dot = |w: &[f64]| w.iter().zip(&hidden).map(|(w, h)| w * h).sum::<f64>();
        let mut z: Vec<f64> = wide.chunks_exact(DIM).map(dot).collect();
        let max = z.iter().copied().fold(f64::MIN, f64::max);
        z.iter_mut().for_each(|z| *z = (*z - max).exp());
        let sum: f64 = z.iter().sum();
        let mut dhidden = vec![0.0; DIM];
        for (j, (share, w)) in z.iter().zip(wide.chunks_exact(DIM)).enumerate() {
            let is_target = f64::from(u8::from(j as i32 == rows.targets[row]));
            let dlogit = (share / sum - is_target) / ROWS as f64;
            dhidden.iter_mut().zip(w).for_each(|(d, w)| *d += dlogit * w);
        }
        dhidden
    };
    let want: Vec<f64> = (0..ROWS).into_par_iter().flat_map_iter(of_row).collect();
    let (mut off, mut norm) = (0.0, 0.0);
    for (got, want) in got.dhidden.iter().zip(&want) {
        off += (f64::from(*got) - want).powi(2);
        norm += want.powi(2);
    }
    let relative = (off / norm).sqrt();
    println!("gsm8k: dhidden of {ROWS} rows off by {relative:.1e} of its norm");
    // Measured: 1.1e-6.
    assert!(relative <= 1e-5, "{relative:e}");
}
