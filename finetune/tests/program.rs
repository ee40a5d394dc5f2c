//! The program, from its files to its files.

mod common;

use common::{config, program, stderr, write_data, write_model};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

fn train(folder: &Path, out: &str, which: &str, steps: usize) -> Command {
    let mut command = program();
    command
        .arg("train")
        .arg("--model")
        .arg(folder.join("model"))
        .arg("--data")
        .arg(folder.join("data.jsonl"));
    command.arg("--out").arg(folder.join(out)).args(["--train", which, "--batch", "8", "--micro", "4"]);
    command.args(["--learning-rate", "0.01", "--steps", &steps.to_string()]);
    command
}

fn prepare(folder: &Path) {
    write_model(&folder.join("model"), &config(), 1);
    write_data(&folder.join("data.jsonl"), 40);
}

/// More than are done by the time that the first checkpoint is seen.
const STEPS: usize = 100;

#[test]
fn a_run_that_is_killed_goes_on_to_the_same_bits() {
    for which in ["full", "last:1", "lora:2"] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        prepare(folder);
        let whole = train(folder, "whole", which, STEPS).output().unwrap();
        assert!(whole.status.success(), "{}", stderr(&whole));

        let cut = |extra: &[&str]| {
            let mut command = train(folder, "cut", which, STEPS);
            command.args(["--checkpoint", "1"]).args(extra);
            command
        };
        let mut run = cut(&[]).stderr(Stdio::null()).spawn().unwrap();
        let checkpoint = folder.join("cut/checkpoint.safetensors");
        let since = Instant::now();
        while !checkpoint.exists() {
            assert!(since.elapsed() < Duration::from_secs(120), "no checkpoint");
            sleep(Duration::from_millis(1));
        }
        run.kill().unwrap();
        run.wait().unwrap();

        let refused = cut(&[]).output().unwrap();
        assert!(!refused.status.success() && stderr(&refused).contains("--resume"), "{}", stderr(&refused));
        let resumed = cut(&["--resume"]).output().unwrap();
        assert!(
            resumed.status.success() && stderr(&resumed).contains("goes on after step"),
            "{}",
            stderr(&resumed)
        );
        let read = |out: &str| fs::read(folder.join(out).join("model.safetensors")).unwrap();
        assert!(read("whole") == read("cut"), "{which}: weights differ");
        let lines = fs::read_to_string(folder.join("cut/metrics.jsonl")).unwrap();
        let steps = lines
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64());
        assert!(steps.eq((0..STEPS as u64).map(Some)), "{lines}");
    }
}

#[test]
fn what_was_trained_is_a_model_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder);
    let held_out = folder.join("data.jsonl");
    let mut command = train(folder, "out", "lora:4", 20);
    let output = command.arg("--eval").arg(&held_out).args(["--answer", "8"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let printed = String::from_utf8(output.stdout).unwrap();
    let after = printed.lines().filter(|line| line.starts_with("held out")).nth(1).unwrap();

    let mut command = program();
    command.arg("eval").arg("--model").arg(folder.join("out")).arg("--data").arg(&held_out);
    let output = command.args(["--answer", "8"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mean = format!("mean log p {:.4}", found["mean_log_p"].as_f64().unwrap());
    assert!(after.contains(&mean), "{after} has {mean}");
}

/// Runs a training that has to fail, and gives what it says.
fn failure(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    stderr(&output)
}

fn says(text: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(text.contains(part), "{text:?} has no {part:?}"));
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn bad_data_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder);
    let good = r#"{"prompt": "a", "response": "b"}"#;
    let long = format!(r#"{{"prompt": "a", "response": "{}"}}"#, "b".repeat(80));
    for (line, parts) in [
        ("{\"prompt\": \"a\"", &["data.jsonl:3", "EOF"][..]),
        (r#"{"prompt": "a", "answer": "b"}"#, &["data.jsonl:3", "missing field `response`"]),
        (r#"{"prompt": "a", "response": " "}"#, &["data.jsonl:3", "the response is empty"]),
        (&long, &["data.jsonl:3", "84 tokens", "context has 64"]),
    ] {
        fs::write(folder.join("data.jsonl"), format!("{good}\n\n{line}\n")).unwrap();
        says(&failure(&mut train(folder, "out", "full", 1)), parts);
    }
    fs::write(folder.join("data.jsonl"), "\n").unwrap();
    says(&failure(&mut train(folder, "out", "full", 1)), &["data.jsonl", "no example"]);
    fs::remove_file(folder.join("data.jsonl")).unwrap();
    says(&failure(&mut train(folder, "out", "full", 1)), &["data.jsonl", "No such file"]);
}

#[test]
fn bad_models_are_named_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder);
    let model = folder.join("model");
    let run = || failure(&mut train(folder, "out", "full", 1));
    let change = |key: &str, value: serde_json::Value| {
        let mut config = config();
        config[key] = value;
        fs::write(model.join("config.json"), config.to_string()).unwrap();
    };
    change("model_type", "gemma".into());
    says(&run(), &["config.json", "gemma", "llama"]);
    change("num_key_value_heads", 3.into());
    says(&run(), &["4 heads", "3 heads"]);
    change("intermediate_size", 41.into());
    says(&run(), &["mlp.gate_proj.weight", "[40, 24]", "[41, 24]"]);
    change("num_hidden_layers", 3.into());
    says(&run(), &["no tensor model.layers.2.input_layernorm.weight"]);

    let mut small = config();
    small["vocab_size"] = 50.into();
    write_model(&model, &small, 1);
    says(&run(), &["tokenizer has 98 tokens", "head has 50"]);

    write_model(&model, &config(), 1);
    let path = model.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    says(&run(), &["model.safetensors"]);
    fs::write(&path, []).unwrap();
    says(&run(), &["model.safetensors"]);
    fs::remove_file(&path).unwrap();
    says(&run(), &["no model*.safetensors"]);
}

#[test]
fn settings_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder);
    says(&failure(&mut train(folder, "out", "last:3", 1)), &["last is 3", "2 blocks"]);
    says(&failure(&mut train(folder, "out", "lora:13", 1)), &["lora is 13", "12 rows"]);
    says(&failure(&mut train(folder, "out", "all", 1)), &["last:BLOCKS"]);
    says(&failure(train(folder, "out", "full", 1).args(["--context", "65"])), &["context is 65", "64"]);
    says(&failure(train(folder, "out", "full", 1).args(["--objective", "nil"])), &["nil"]);
    says(&failure(&mut train(folder, "out", "full", 0)), &["0"]);
}

#[cfg(not(feature = "gpu"))]
#[test]
fn a_build_without_a_gpu_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder);
    let text = failure(train(folder, "out", "full", 1).args(["--backend", "gpu"]));
    says(&text, &["backend is gpu", "--features gpu"]);
}

#[test]
fn a_checkpoint_of_another_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder);
    let run = |steps: usize| {
        let mut command = train(folder, "out", "full", steps);
        command.args(["--checkpoint", "1", "--resume"]);
        command
    };
    assert!(run(2).status().unwrap().success());
    says(&failure(&mut run(3)), &["checkpoint.safetensors", "of the settings"]);
    write_model(&folder.join("model"), &config(), 2);
    says(&failure(&mut run(2)), &["checkpoint.safetensors", "of the model"]);
    write_model(&folder.join("model"), &config(), 1);
    write_data(&folder.join("data.jsonl"), 39);
    says(&failure(&mut run(2)), &["checkpoint.safetensors", "of the data"]);
    let path = folder.join("out/checkpoint.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    says(&failure(&mut run(2)), &["checkpoint.safetensors"]);
}

/// A limit on the size of a file stands for a full disk: writing fails in the middle in the same way.
#[cfg(unix)]
#[test]
fn the_old_checkpoint_survives_where_there_is_no_room() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder);
    let mut first = train(folder, "out", "full", 4);
    assert!(first.args(["--checkpoint", "3"]).status().unwrap().success());
    let path = folder.join("out/checkpoint.safetensors");
    let before = fs::read(&path).unwrap();

    let mut second = train(folder, "out", "full", 4);
    second.args(["--checkpoint", "1", "--resume"]);
    let mut limited = Command::new("sh");
    limited.arg("-c").arg("trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\"").arg(second.get_program());
    limited.args(second.get_args());
    says(&failure(&mut limited), &["checkpoint.safetensors", "too large"]);
    assert!(fs::read(&path).unwrap() == before);
    assert!(!folder.join("out/checkpoint.safetensors.partial").exists());
    assert!(second.status().unwrap().success());
}
