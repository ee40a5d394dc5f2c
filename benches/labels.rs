//! Loss and gradient of rows with a second row beside them, labels or a teacher's logits that guide, beside a copy of the same
//! bytes by the same threads, two rows read and one written, and beside nll of the row alone, in one run on the CPU.
//!
//! `cargo bench -p tokenloss --bench labels` prints the median of interleaved rounds and their ratio to the copy.

mod setup;

use rayon::prelude::*;
use setup::{logits, median, targets, time, uniform};
use std::hint::black_box;
use tokenloss::cpu::{Cpu, Level};
use tokenloss::half::bf16;
use tokenloss::label::AnyLabel;
use tokenloss::{
    Batch, Element, Evaluate, EvaluateGuided, EvaluateLabels, Guidance, Labels, Logits, MAX_PARAMETERS, Nll,
    Outputs, Reduction, Shape, Teacher,
};

const ROUNDS: usize = 9;

/// Each of the list by its defaults.
fn objectives() -> Vec<AnyLabel> {
    let of = |name: &&str| {
        let parameters = AnyLabel::parameters_of(name).expect("listed");
        let mut values = [0.0; MAX_PARAMETERS];
        parameters.iter().zip(&mut values).for_each(|(parameter, value)| *value = parameter.default);
        AnyLabel::with_parameters(name, values).expect("listed").expect("in the domain")
    };
    AnyLabel::NAMES.iter().map(of).collect()
}

/// Rows and what is beside them.
struct Problem<'a, E> {
    batch: Batch<'a>,
    z: Vec<E>,
    second: Vec<E>,
}

impl<E: Element> Problem<'_, E> {
    fn print(&self, name: &str, run: impl Fn(Logits<'_, E>)) {
        let shape = self.batch.shape();
        let (rows, vocab) = (shape.rows(), shape.vocab());
        let (z, second) = (&self.z, &self.second);
        let mut out = z.clone();
        let mut seconds = [const { Vec::new() }; 4];
        for round in 0..ROUNDS + 2 {
            let copy = time(|| {
                let rows = out.par_chunks_mut(vocab).zip(z.par_chunks(vocab)).zip(second.par_chunks(vocab));
                rows.for_each(|((out, z), second)| {
                    black_box(second.iter().fold(0u32, |sum, x| sum ^ x.to_bits()));
                    out.copy_from_slice(z);
                });
            });
            let nll = time(|| {
                let logits = Logits::OutOfPlace { logits: z, dlogits: &mut out };
                let none = Outputs::default();
                let totals = Cpu::new().evaluate(&Nll, Reduction::default(), &self.batch, logits, none);
                black_box(totals.expect("finite logits"));
            });
            let out_of_place = time(|| run(Logits::OutOfPlace { logits: z, dlogits: &mut out }));
            let read = time(|| run(Logits::Read(z)));
            // The first rounds warm caches, threads and pages up.
            if round >= 2 {
                let round = [copy, nll, out_of_place, read];
                seconds.iter_mut().zip(round).for_each(|(all, one)| all.push(one));
            }
        }
        let [copy, others @ ..] = seconds.map(median);
        let [nll, out_of_place, read] = others.map(|seconds| seconds / copy);
        println!(
            "{:10} {:4} {rows:4} x {vocab:6}  {name:16} copy {:6.2} ms   nll alone {nll:4.2}x   out of place {out_of_place:4.2}x   \
             losses only {read:4.2}x",
            Level::best().name(),
            E::DTYPE.name(),
            copy * 1e3,
        );
    }
}

fn bench<E: Element>(rows: usize, vocab: usize) {
    let targets = targets(rows, vocab);
    let shape = Shape::new(rows, vocab).expect("a shape");
    let mut uniform = uniform();
    let z: Vec<E> = logits(&mut uniform, vocab, &targets);
    // From 0 to 1, most of them near 0: labels of either link, and a teacher's logits.
    let second = (0..rows * vocab).map(|_| E::from_f32(uniform().powi(8))).collect();
    let batch = Batch::new(shape, &targets).expect("a batch");
    let problem = Problem { batch, z, second };
    let labels = Labels::new(shape, &problem.second).expect("labels");
    let teacher = Teacher::new(shape, &problem.second).expect("a teacher");
    let (cpu, mean) = (Cpu::new(), Reduction::default());
    for objective in objectives() {
        problem.print(objective.name(), |logits| {
            let totals = cpu.evaluate_labels(&objective, mean, &problem.batch, logits, labels, None);
            black_box(totals.expect("finite logits, labels in their domain"));
        });
    }
    problem.print("nll, guided", |logits| {
        let (guidance, none) = (Guidance::All(0.7), Outputs::default());
        let totals = cpu.evaluate_guided(&Nll, guidance, mean, &problem.batch, logits, teacher, none);
        black_box(totals.expect("finite logits"));
    });
}

fn main() {
    println!("{} threads", rayon::current_num_threads());
    bench::<f32>(128, 128_256);
    bench::<bf16>(128, 128_256);
}
