//! Gradients and steps of a small model.

mod common;

use burn::tensor::Device;
use common::{config, write_data, write_model};
use std::collections::BTreeMap;
use std::path::Path;
use tokenloss_core::{Budget, Composite};
use tokenloss_finetune::data::{self, Example};
use tokenloss_finetune::load::load;
use tokenloss_finetune::loss::Loss;
use tokenloss_finetune::model::{Cache, Model};
use tokenloss_finetune::optim::AdamW;
use tokenloss_finetune::train::{Settings, Trained, Trainer};
use tokenloss_finetune::weights::values;

fn settings(trained: Trained, micro: usize) -> Settings {
    let adam = AdamW { learning_rate: 1e-2, ..AdamW::default() };
    Settings { trained, objective: "nll".to_owned(), steps: 40, batch: 8, micro, seed: 3, adam }
}

fn open(folder: &Path) -> (Model, Vec<Example>) {
    open_on(folder, &Device::flex())
}

fn open_on(folder: &Path, device: &Device) -> (Model, Vec<Example>) {
    write_model(folder, &config(), 1);
    let loaded = load(folder, device).unwrap();
    let data = folder.join("data.jsonl");
    write_data(&data, 16);
    let examples = data::read(&data, &loaded.tokens, &loaded.chat, 64).unwrap();
    (Model::new(loaded.config, loaded.weights, 64, device), examples)
}

fn trainer(model: &Model, settings: Settings) -> Trainer {
    let objective = Composite::parse(&settings.objective).unwrap();
    Trainer::new(model.clone(), settings, Loss { objective, budget: Budget::default() }, 1 << 20).unwrap()
}

type Numbers = BTreeMap<String, Vec<f32>>;

fn gradients(trainer: &mut Trainer, examples: &[Example], indices: &[usize]) -> Numbers {
    let (gradients, _) = trainer.gradients(examples, indices).unwrap();
    gradients.into_iter().map(|(name, gradient)| (name, values(gradient).unwrap())).collect()
}

/// Each gradient is a sum of products over at most 64 positions, of which either side rounds each and each sum; what
/// comes out is granted as much of the largest of its tensor, and what went through two blocks a few times that.
fn same(a: &[f32], b: &[f32], name: &str) {
    let largest = a.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    assert!(largest > 0.0, "{name} has a gradient");
    let granted = 64.0 * 8.0 * f32::EPSILON * largest;
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= granted, "{name}: {a} and {b} are more than {granted} apart");
    }
}

#[test]
fn a_step_of_eight_is_the_same_in_one_or_in_four_parts() {
    let folder = tempfile::tempdir().unwrap();
    let (model, examples) = open(folder.path());
    let indices: Vec<usize> = (0..8).collect();
    let whole = gradients(&mut trainer(&model, settings(Trained::Full, 8)), &examples, &indices);
    assert_eq!(whole.len(), 2 * 9 + 2);
    for micro in [1, 2, 3] {
        let parts = gradients(&mut trainer(&model, settings(Trained::Full, micro)), &examples, &indices);
        whole.iter().for_each(|(name, gradient)| same(gradient, &parts[name], name));
    }
}

#[cfg(feature = "gpu")]
#[test]
fn a_gpu_has_the_gradients_of_the_cpu() {
    use tokenloss_finetune::backend::Backend;
    let gpu = match Backend::Gpu.device() {
        Ok(gpu) => gpu,
        Err(error) => {
            assert!(std::env::var_os("TOKENLOSS_REQUIRE_GPU").is_none(), "a GPU is required: {error}");
            println!("skipped 1: {error}");
            return;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let (model, examples) = open(folder.path());
    let (model_on_gpu, _) = open_on(folder.path(), &gpu);
    let indices: Vec<usize> = (0..8).collect();
    for trained in [Trained::Full, Trained::Last(1), Trained::Lora(2)] {
        let expected = gradients(&mut trainer(&model, settings(trained, 4)), &examples, &indices);
        let got = gradients(&mut trainer(&model_on_gpu, settings(trained, 4)), &examples, &indices);
        assert!(!got.is_empty() && got.keys().eq(expected.keys()));
        // The first of LoRA's two matrices has no gradient as long as the second is 0.
        let moved = expected.iter().filter(|(_, gradient)| gradient.iter().any(|&x| x != 0.0));
        moved.for_each(|(name, gradient)| same(gradient, &got[name], name));
    }
}

#[test]
fn the_last_block_has_the_gradient_that_it_has_with_all_others() {
    let folder = tempfile::tempdir().unwrap();
    let (model, examples) = open(folder.path());
    let indices: Vec<usize> = (0..8).collect();
    let full = gradients(&mut trainer(&model, settings(Trained::Full, 4)), &examples, &indices);
    let mut last = trainer(&model, settings(Trained::Last(1), 4));
    let first = gradients(&mut last, &examples, &indices);
    assert_eq!(first.len(), 9 + 1);
    assert!(first.keys().all(|name| name.starts_with("model.layers.1.") || name == "model.norm.weight"));
    first.iter().for_each(|(name, gradient)| same(&full[name], gradient, name));
    // Now from what was kept.
    assert_eq!(gradients(&mut last, &examples, &indices), first);
    // And with no room to keep anything.
    let objective = Composite::parse("nll").unwrap();
    let loss = Loss { objective, budget: Budget::default() };
    let mut roomless = Trainer::new(model, settings(Trained::Last(1), 4), loss, 0).unwrap();
    assert_eq!(gradients(&mut roomless, &examples, &indices), first);
}

#[test]
fn gradients_are_differences_of_the_loss() {
    let folder = tempfile::tempdir().unwrap();
    let (model, examples) = open(folder.path());
    for spec in ["nll", "power:alpha=1"] {
        let mut settings = settings(Trained::Full, 4);
        settings.objective = spec.to_owned();
        let indices = [0, 1, 2, 3];
        let found = gradients(&mut trainer(&model, settings.clone()), &examples, &indices);
        for name in [
            "model.layers.0.self_attn.k_proj.weight",
            "model.layers.1.mlp.up_proj.weight",
            "model.norm.weight",
        ] {
            // Along the gradient itself, so that the difference is as large as it can be.
            let gradient = &found[name];
            let square: f64 = gradient.iter().map(|&g| f64::from(g) * f64::from(g)).sum();
            let length = 1e-2 / square.sqrt();
            let loss = |sign: f64| {
                let mut moved = model.clone();
                let tensor = moved.weights.take(name).unwrap();
                let shape = tensor.dims();
                let device = tensor.device();
                let before = values(tensor).unwrap();
                let along = before.iter().zip(gradient).map(|(&w, &g)| w + (sign * length) as f32 * g);
                moved.weights.insert(name.to_owned(), along.collect(), shape, &device);
                let mut frozen = settings.clone();
                frozen.adam.learning_rate = 0.0;
                trainer(&moved, frozen).step(&examples, &indices).unwrap().loss
            };
            let slope = (loss(1.0) - loss(-1.0)) / (2.0 * length);
            // The third derivative over a hundredth, and f32 through two blocks: a few parts in a thousand.
            assert!((slope - square).abs() < 5e-3 * square, "{spec} {name}: {slope} and {square}");
        }
    }
}

#[test]
fn training_learns_and_lora_begins_where_the_model_is() {
    let folder = tempfile::tempdir().unwrap();
    let (model, examples) = open(folder.path());
    let mut starts = Vec::new();
    for trained in [Trained::Full, Trained::Last(1), Trained::Lora(4)] {
        let mut trainer = trainer(&model, settings(trained, 4));
        let mut order = data::Order::new(3, examples.len());
        let losses: Vec<f64> =
            (0..40).map(|step| trainer.step(&examples, &order.step(step, 8)).unwrap().loss).collect();
        assert!(losses[39] < 0.9 * losses[0], "{trained}: {} to {}", losses[0], losses[39]);
        starts.push(losses[0]);
        for (name, tensor) in model.weights.iter() {
            let changed = values(trainer.model.weights.get(name).unwrap().clone()).unwrap()
                != values(tensor.clone()).unwrap();
            assert_eq!(changed, trainer.trained().iter().any(|trained| trained == name), "{trained}: {name}");
        }
    }
    assert!(starts.iter().all(|start| (start - starts[0]).abs() < 1e-5));
}

#[test]
fn a_text_that_goes_on_has_the_hidden_states_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (model, examples) = open(folder.path());
    let tokens: Vec<u32> = examples[4].inputs().collect();
    let whole = values(model.normed(model.blocks(model.embed(&tokens), 1, 0..2))).unwrap();
    let mut cache = Cache::default();
    let mut parts = values(model.extend(&tokens[..3], &mut cache)).unwrap();
    for token in &tokens[3..] {
        parts.extend(values(model.extend(&[*token], &mut cache)).unwrap());
    }
    same(&whole, &parts, "hidden");
}
