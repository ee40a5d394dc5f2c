//! GGUF beside the same model in safetensors.

mod common;

use burn::tensor::Device;
use candle_core::quantized::gguf_file::{Value, write};
use candle_core::quantized::{GgmlDType, QTensor};
use common::{config, program, stderr, vocabulary, write_model};
use std::fs::{self, File};
use std::path::Path;
use tokenloss_finetune::load::{Loaded, load};
use tokenloss_finetune::weights::values;

/// Sizes of which every block type is made.
fn wide() -> serde_json::Value {
    let mut config = config();
    config["hidden_size"] = 256.into();
    config["intermediate_size"] = 256.into();
    config["num_hidden_layers"] = 1.into();
    config
}

/// What llama.cpp calls a tensor of ours.
fn short(name: &str) -> String {
    let pairs = [
        ("model.embed_tokens", "token_embd"),
        ("model.layers.0.", "blk.0."),
        ("model.norm", "output_norm"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    pairs.iter().fold(name.to_owned(), |name, (ours, theirs)| name.replace(ours, theirs))
}

/// As llama.cpp converts q and k: `w.reshape(heads, 2, size / 2, columns).swapaxes(1, 2)`.
fn beside(values: &[f32], heads: usize, size: usize) -> Vec<f32> {
    let columns = values.len() / heads / size;
    let mut result = Vec::new();
    for head in 0..heads {
        for pair in 0..size / 2 {
            for half in 0..2 {
                let row = head * size + half * (size / 2) + pair;
                result.extend(&values[row * columns..(row + 1) * columns]);
            }
        }
    }
    result
}

fn metadata() -> Vec<(&'static str, Value)> {
    let texts = |all: Vec<String>| Value::Array(all.into_iter().map(Value::String).collect());
    let types = (0..vocabulary().len()).map(|id| Value::I32(if id < 2 { 3 } else { 1 }));
    vec![
        ("general.architecture", Value::String("llama".to_owned())),
        ("llama.block_count", Value::U32(1)),
        ("llama.context_length", Value::U32(64)),
        ("llama.embedding_length", Value::U32(256)),
        ("llama.feed_forward_length", Value::U32(256)),
        ("llama.attention.head_count", Value::U32(4)),
        ("llama.attention.head_count_kv", Value::U32(2)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("tokenizer.ggml.model", Value::String("gpt2".to_owned())),
        ("tokenizer.ggml.tokens", texts(vocabulary())),
        ("tokenizer.ggml.token_type", Value::Array(types.collect())),
        ("tokenizer.ggml.merges", texts(Vec::new())),
        ("tokenizer.ggml.eos_token_id", Value::U32(1)),
        (
            "tokenizer.chat_template",
            Value::String("{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}".to_owned()),
        ),
    ]
}

fn write_gguf(path: &Path, model: &Loaded, dtype: GgmlDType, metadata: &[(&str, Value)]) {
    let cpu = candle_core::Device::Cpu;
    let tensors: Vec<(String, QTensor)> = model
        .weights
        .iter()
        .map(|(name, tensor)| {
            let [rows, columns] = tensor.dims();
            let mut numbers = values(tensor.clone()).unwrap();
            if name.contains("q_proj") || name.contains("k_proj") {
                numbers = beside(&numbers, rows / 64, 64);
            }
            let shape = if rows == 1 { vec![columns] } else { vec![rows, columns] };
            let dtype = if rows == 1 { GgmlDType::F32 } else { dtype };
            let tensor = candle_core::Tensor::from_vec(numbers, shape, &cpu).unwrap();
            (short(name), QTensor::quantize(&tensor, dtype).unwrap())
        })
        .collect();
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    write(&mut File::create(path).unwrap(), &metadata, &tensors).unwrap();
}

#[test]
fn every_block_type_is_the_model_that_it_was_made_of() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), &wide(), 1);
    let device = Device::flex();
    let model = load(folder.path(), &device).unwrap();
    let path = folder.path().join("tiny.gguf");
    // By how much a number of a block may be off, as a share of its block's greatest: half a step, or half a step and
    // what the scales of blocks within blocks lose; 16 bits lose one rounding.
    for (dtype, share) in [
        (GgmlDType::F32, 0.0),
        (GgmlDType::F16, 1.0 / 2048.0),
        (GgmlDType::BF16, 1.0 / 256.0),
        (GgmlDType::Q8_0, 0.6 / 127.0),
        (GgmlDType::Q4_0, 1.1 / 8.0),
        (GgmlDType::Q4_1, 1.2 / 15.0),
        (GgmlDType::Q5_0, 1.1 / 16.0),
        (GgmlDType::Q5_1, 1.2 / 31.0),
        (GgmlDType::Q4K, 2.2 / 15.0),
        (GgmlDType::Q5K, 2.2 / 31.0),
        (GgmlDType::Q6K, 2.2 / 32.0),
    ] {
        write_gguf(&path, &model, dtype, &metadata());
        let found = load(&path, &device).unwrap();
        assert_eq!(found.config, model.config);
        assert_eq!(found.weights.iter().count(), model.weights.iter().count());
        for (name, expected) in model.weights.iter() {
            let expected = values(expected.clone()).unwrap();
            let found = values(found.weights.get(name).unwrap().clone()).unwrap();
            let greatest = expected.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            let worst = expected.iter().zip(&found).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
            assert!(worst <= share * greatest, "{dtype:?} {name}: {worst} of {greatest}");
        }
    }
}

#[test]
fn tokens_and_template_are_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), &wide(), 1);
    let device = Device::flex();
    let model = load(folder.path(), &device).unwrap();
    let path = folder.path().join("tiny.gguf");
    write_gguf(&path, &model, GgmlDType::F32, &metadata());
    let found = load(&path, &device).unwrap();
    let text = "<user>a b{c}<end>";
    assert_eq!(found.tokens.encode(text).unwrap(), model.tokens.encode(text).unwrap());
    assert_eq!(found.tokens.decode(&[0, 70, 71]).unwrap(), model.tokens.decode(&[0, 70, 71]).unwrap());
    assert_eq!((found.tokens.end, found.chat.end.as_str()), (1, "<end>"));
}

#[test]
fn bad_files_are_named_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), &wide(), 1);
    let model = load(folder.path(), &Device::flex()).unwrap();
    let path = folder.path().join("tiny.gguf");
    let says = |parts: &[&str]| {
        let output = program().arg("ask").arg("--model").arg(&path).arg("a").output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        parts.iter().for_each(|part| assert!(text.contains(part), "{text:?} has no {part:?}"));
    };
    let with = |key: &str, value: Option<Value>| {
        let changed = metadata().into_iter().filter_map(|(name, old)| {
            if name == key { value.clone().map(|value| (name, value)) } else { Some((name, old)) }
        });
        write_gguf(&path, &model, GgmlDType::F32, &changed.collect::<Vec<_>>());
    };
    let text = |text: &str| Some(Value::String(text.to_owned()));
    with("general.architecture", text("mamba"));
    says(&["tiny.gguf", "mamba", "llama or qwen2"]);
    with("tokenizer.ggml.model", text("llama"));
    says(&["tiny.gguf", "of kind llama", "gpt2"]);
    with("llama.block_count", Some(Value::U32(2)));
    says(&["tiny.gguf", "no tensor model.layers.1.input_layernorm.weight"]);
    with("llama.feed_forward_length", Some(Value::U32(128)));
    says(&["mlp.gate_proj.weight", "[256, 256]", "[128, 256]"]);
    with("llama.context_length", None);
    says(&["tiny.gguf", "no llama.context_length"]);
    with("tokenizer.ggml.eos_token_id", Some(Value::U32(500)));
    says(&["eos_token_id is 500", "98 tokens"]);

    with("", None);
    let bytes = fs::read(&path).unwrap();
    for length in [0, 3, 100, bytes.len() / 2, bytes.len() - 1000] {
        fs::write(&path, &bytes[..length]).unwrap();
        says(&["tiny.gguf"]);
    }
    fs::write(&path, b"not a model at all").unwrap();
    says(&["tiny.gguf", "magic"]);
    fs::remove_file(&path).unwrap();
    says(&["tiny.gguf", "No such file"]);
}
