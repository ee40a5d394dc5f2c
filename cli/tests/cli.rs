//! The program as its user sees it: every command, and every way to use it wrongly.

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tokenloss::half::{bf16, f16};
use tokenloss::{Batch, Composite, Element, LogitMap, Objective, Reduction, RowSummary, Shape, reference};

/// A folder of the test's own.
fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    // It is there if an earlier run left it, which is no fault.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn command(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenloss"));
    command.current_dir(folder).args(arguments.split_whitespace());
    command
}

fn run(folder: &Path, arguments: &str) -> Output {
    command(folder, arguments).output().unwrap()
}

fn succeeds(folder: &Path, arguments: &str) -> String {
    let output = run(folder, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tokenloss {arguments}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(folder: &Path, arguments: &str) -> Value {
    serde_json::from_str(&succeeds(folder, arguments)).unwrap()
}

/// Exit code 2, nothing on stdout, and one line on stderr that holds all of `parts`.
fn fails(folder: &Path, arguments: &str, parts: &[&str]) {
    let output = run(folder, arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "tokenloss {arguments}: {stderr}");
    assert!(output.stdout.is_empty(), "tokenloss {arguments}");
    // A graphics driver may have said something before, and so may a stage that began.
    let others = |line: &&str| line.contains("XDG_RUNTIME_DIR") || line.ends_with(" steps");
    let ours: Vec<_> = stderr.lines().filter(|line| !others(line)).collect();
    assert_eq!(ours.len(), 1, "tokenloss {arguments}: {stderr}");
    assert!(ours[0].starts_with("error: "), "tokenloss {arguments}: {stderr}");
    for part in parts {
        assert!(ours[0].contains(part), "tokenloss {arguments}: '{part}' is missing in: {stderr}");
    }
}

fn little_endian<const N: usize, T: Copy>(values: &[T], bytes: fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|&value| bytes(value)).collect()
}

fn f32s(values: &[f32]) -> Vec<u8> {
    little_endian(values, f32::to_le_bytes)
}

fn i32s(values: &[i32]) -> Vec<u8> {
    little_endian(values, i32::to_le_bytes)
}

fn write(file: &Path, tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (*name, TensorView::new(*dtype, shape.to_vec(), bytes).unwrap()));
    std::fs::write(file, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn read(file: &Path, name: &str, dtype: Dtype, shape: &[usize]) -> Vec<u8> {
    let bytes = std::fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let view = tensors.tensor(name).unwrap();
    assert_eq!((view.dtype(), view.shape()), (dtype, shape), "{name}");
    view.data().to_vec()
}

fn read_f32(file: &Path, name: &str, shape: &[usize]) -> Vec<f32> {
    read_floats(file, name, Dtype::F32, shape)
}

const ROWS: usize = 5;
const VOCAB: usize = 7;
const TARGETS: [i32; ROWS] = [0, 6, -100, 3, 2];
const WEIGHTS: [f32; ROWS] = [1.0, 0.5, 1.0, 0.0, 2.0];

/// Numbers without a pattern that are the same everywhere.
fn logits(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 + 11) % 41) as f32 / 4.0 - 5.0).collect()
}

fn write_logits(file: &Path, values: &[f32]) {
    write(
        file,
        &[
            ("logits", Dtype::F32, &[ROWS, VOCAB], f32s(values)),
            ("targets", Dtype::I32, &[ROWS], i32s(&TARGETS)),
            ("weights", Dtype::F32, &[ROWS], f32s(&WEIGHTS)),
        ],
    );
}

/// The names of a file's tensors, in order.
fn names(file: &Path) -> Vec<String> {
    let bytes = std::fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut names: Vec<_> = tensors.names().into_iter().map(str::to_owned).collect();
    names.sort_unstable();
    names
}

/// Floating-point numbers of any type.
fn read_floats(file: &Path, name: &str, dtype: Dtype, shape: &[usize]) -> Vec<f32> {
    let bytes = read(file, name, dtype, shape);
    match dtype {
        Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
        Dtype::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        _ => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
    }
}

fn floats(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F32 => f32s(values),
        Dtype::F16 => values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
    }
}

/// The oracle's losses, log_p, gradient and loss.
fn oracle(spec: &str, values: &[f32]) -> (Vec<f64>, Vec<f64>, Vec<f64>, f64) {
    oracle_of(spec, LogitMap::default(), values)
}

fn oracle_of(spec: &str, map: LogitMap<'_>, values: &[f32]) -> (Vec<f64>, Vec<f64>, Vec<f64>, f64) {
    let wide: Vec<f64> = values.iter().map(|&z| f64::from(z)).collect();
    let batch = Batch::new(Shape::new(ROWS, VOCAB).unwrap(), &TARGETS).unwrap();
    let batch = batch.with_weights(&WEIGHTS).unwrap().with_map(map).unwrap();
    let (mut losses, mut dlogits) = (vec![0.0; ROWS], vec![0.0; ROWS * VOCAB]);
    let mut summaries = vec![RowSummary::nan(); ROWS];
    let results =
        reference::Results { losses: &mut losses, summaries: &mut summaries, dlogits: &mut dlogits };
    let objective = Composite::parse(spec).unwrap();
    let totals = reference::evaluate(&objective, Reduction::default(), &batch, &wide, results).unwrap();
    let log_p = summaries.iter().map(|summary| summary.target.log_p).collect();
    (losses, log_p, dlogits, totals.loss())
}

fn close(what: &str, got: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(got) - expected).abs();
        let fits = error <= tolerance * (1.0 + expected.abs()) || (got.is_nan() && expected.is_nan());
        assert!(fits, "{what}[{i}]: {got} is not {expected}");
    }
}

#[test]
fn eval_agrees_with_the_oracle() {
    let folder = folder("eval");
    let values = logits(ROWS * VOCAB);
    write_logits(&folder.join("in.safetensors"), &values);
    for spec in ["nll", "power:alpha=2", "thresholded:inner=nll,lo=0.05", "OnlyTopP-0.1"] {
        let arguments =
            format!("eval --logits in.safetensors --objective {spec} --out out.safetensors --json");
        let totals = json(&folder, &arguments);
        let (losses, log_p, dlogits, loss) = oracle(spec, &values);
        let out = folder.join("out.safetensors");
        close("losses", &read_f32(&out, "losses", &[ROWS]), &losses, 1e-6);
        close("log_p", &read_f32(&out, "log_p", &[ROWS]), &log_p, 1e-6);
        close("dlogits", &read_f32(&out, "dlogits", &[ROWS, VOCAB]), &dlogits, 1e-6);
        assert!((totals["loss"].as_f64().unwrap() - loss).abs() < 1e-6, "{totals}");
        assert_eq!((&totals["valid"], &totals["ignored"]), (&4.into(), &1.into()));
        read_f32(&out, "lse", &[ROWS]);
        read_f32(&out, "entropy", &[ROWS]);
        read(&out, "argmax", Dtype::I32, &[ROWS]);
    }
    let table = succeeds(&folder, "eval --logits in.safetensors --objective p --out out.safetensors");
    assert!(
        table.contains("power:alpha=1") && table.contains("4 valid, 4 kept, 3 live, 1 ignored"),
        "{table}"
    );
}

#[test]
fn eval_adds_objectives_up_and_maps_logits() {
    let folder = folder("sums");
    let values = logits(ROWS * VOCAB);
    write_logits(&folder.join("in.safetensors"), &values);
    let softcap = LogitMap::softcap(4.0).unwrap().with_scale(0.5).unwrap().with_margin(-0.25).unwrap();
    for (options, map) in [
        ("", LogitMap::default()),
        ("--softcap 4 --temperature 2 --margin -0.25", softcap),
        ("--stable-max", LogitMap::stable_max()),
    ] {
        for spec in ["label_smoothing:epsilon=0.1", "nll+z_loss:lambda=0.01+entropy:lambda=-0.1"] {
            let options =
                format!("eval --logits in.safetensors --objective {spec} {options} --out out.safetensors");
            let report = json(&folder, &format!("{options} --json"));
            let (losses, log_p, dlogits, loss) = oracle_of(spec, map, &values);
            let out = folder.join("out.safetensors");
            close("losses", &read_f32(&out, "losses", &[ROWS]), &losses, 1e-5);
            close("log_p", &read_f32(&out, "log_p", &[ROWS]), &log_p, 1e-5);
            close("dlogits", &read_f32(&out, "dlogits", &[ROWS, VOCAB]), &dlogits, 1e-5);
            assert!(
                (report["loss"].as_f64().unwrap() - loss).abs() <= 1e-5 * (1.0 + loss.abs()),
                "{options}"
            );
        }
    }
    let eval = |options: &str| {
        format!("eval --logits in.safetensors --objective nll {options} --out out.safetensors")
    };
    fails(&folder, &eval("--temperature 0"), &["temperature: 0"]);
    fails(&folder, &eval("--softcap -1"), &["cap: value 0 is -1, expected a positive normal number"]);
    fails(
        &folder,
        "eval --logits in.safetensors --objective nll+nothing --out out.safetensors",
        &["no objective is called 'nothing'"],
    );
}

#[test]
fn eval_converts_the_logits_first() {
    let folder = folder("eval-dtype");
    let values = logits(ROWS * VOCAB);
    write_logits(&folder.join("in.safetensors"), &values);
    let common = "eval --logits in.safetensors --objective nll --out out.safetensors";
    let out = folder.join("out.safetensors");

    succeeds(&folder, &format!("{common} --dtype bf16"));
    let rounded: Vec<f32> = values.iter().map(|&z| <bf16 as Element>::from_f32(z).to_f32()).collect();
    close("log_p", &read_f32(&out, "log_p", &[ROWS]), &oracle("nll", &rounded).1, 1e-6);
    let dlogits = read_floats(&out, "dlogits", Dtype::BF16, &[ROWS, VOCAB]);
    close("dlogits", &dlogits, &oracle("nll", &rounded).2, 1.0 / 256.0);

    // A file of f16 stays f16, and i64 targets are taken, too.
    let narrow: Vec<f16> = values.iter().map(|&z| f16::from_f32(z)).collect();
    let wide: Vec<i64> = TARGETS.iter().map(|&t| i64::from(t)).collect();
    let tensors = [
        ("logits", Dtype::F16, &[ROWS, VOCAB][..], little_endian(&narrow, f16::to_le_bytes)),
        ("targets", Dtype::I64, &[ROWS], little_endian(&wide, i64::to_le_bytes)),
    ];
    write(&folder.join("in.safetensors"), &tensors);
    succeeds(&folder, common);
    read(&out, "dlogits", Dtype::F16, &[ROWS, VOCAB]);
}

#[test]
fn eval_divides_as_told() {
    let folder = folder("eval-denominator");
    write_logits(&folder.join("in.safetensors"), &logits(ROWS * VOCAB));
    let denominator = |what: &str| {
        let spec = "thresholded:inner=nll,lo=0.05";
        let common = format!("eval --logits in.safetensors --objective {spec} --out out.safetensors --json");
        let totals = json(&folder, &format!("{common} --denominator {what}"));
        (totals["denominator"].as_f64().unwrap(), totals["kept"].as_f64().unwrap())
    };
    assert_eq!(denominator("valid").0, 4.0);
    assert_eq!(denominator("sum").0, 1.0);
    assert_eq!(denominator("2.5").0, 2.5);
    let (kept, count) = denominator("kept");
    assert!(kept == count && kept < 4.0, "{kept} {count}");
}

#[test]
fn eval_marks_a_row_that_is_not_finite() {
    let folder = folder("eval-nan");
    let mut values = logits(ROWS * VOCAB);
    values[VOCAB + 3] = f32::NAN;
    write_logits(&folder.join("in.safetensors"), &values);
    let common = "eval --logits in.safetensors --objective nll --out out.safetensors";
    fails(&folder, common, &["in.safetensors", "row 1", "column 3", "NaN"]);
    assert!(!folder.join("out.safetensors").exists());
    let left = std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(left, 1, "a failure leaves no file behind");
    succeeds(&folder, &format!("{common} --non-finite nan"));
    let losses = read_f32(&folder.join("out.safetensors"), "losses", &[ROWS]);
    assert!(losses[1].is_nan() && losses[0].is_finite());
}

#[test]
fn eval_runs_at_every_level() {
    let folder = folder("eval-level");
    let values = logits(ROWS * VOCAB);
    write_logits(&folder.join("in.safetensors"), &values);
    let devices = json(&folder, "devices --json");
    for level in devices["levels"].as_array().unwrap() {
        let level = level.as_str().unwrap();
        let common = "eval --logits in.safetensors --objective nll --out out.safetensors";
        succeeds(&folder, &format!("{common} --level {level}"));
        let log_p = read_f32(&folder.join("out.safetensors"), "log_p", &[ROWS]);
        close(level, &log_p, &oracle("nll", &values).1, 1e-6);
    }
}

#[test]
fn eval_runs_on_a_gpu() {
    let folder = folder("eval-gpu");
    let values = logits(ROWS * VOCAB);
    write_logits(&folder.join("in.safetensors"), &values);
    if json(&folder, "devices --json")["adapters"].as_array().unwrap().is_empty() {
        assert!(std::env::var_os("TOKENLOSS_REQUIRE_GPU").is_none(), "a GPU is required, but there is none");
        println!("gpu: not tested, no adapter");
        return;
    }
    succeeds(&folder, "eval --logits in.safetensors --objective nll --out out.safetensors --backend gpu");
    let out = folder.join("out.safetensors");
    let (losses, _, dlogits, _) = oracle("nll", &values);
    close("losses", &read_f32(&out, "losses", &[ROWS]), &losses, 1e-5);
    close("dlogits", &read_f32(&out, "dlogits", &[ROWS, VOCAB]), &dlogits, 1e-5);

    let (rows, dim, vocab) = (9, 6, 2500);
    let case = Hidden::new(rows, dim, vocab);
    case.write(&folder, Dtype::BF16);
    let what = "--objective power:alpha=2 --out out.safetensors --json";
    let expected = json(&folder, &format!("eval --logits logits.safetensors {what}"));
    let [dhidden, dweight, _] = case.gradients(&read_f32(&out, "dlogits", &[rows, vocab]));
    let linear = "--hidden rows.safetensors --head head.safetensors --dweight --backend gpu";
    let totals = json(&folder, &format!("eval {linear} {what}"));
    assert_eq!((&totals["live"], &totals["valid"]), (&expected["live"], &expected["valid"]));
    are_sums(Dtype::F32, "dweight", &read_f32(&out, "dweight", &[vocab, dim]), &dweight, 1e-5);
    let got = read_floats(&out, "dhidden", Dtype::BF16, &[rows, dim]);
    are_sums(Dtype::BF16, "dhidden", &got, &dhidden, 1e-5);
    succeeds(&folder, "place --rows rows.safetensors --head head.safetensors --backend gpu --json");
    succeeds(&folder, "bench --linear --dim 32 --vocab 2000 --rows 8 --runs 1 --backend gpu");
}

/// Of a machine without an adapter: no driver is found where none is looked for.
#[cfg(all(target_os = "linux", feature = "gpu"))]
#[test]
fn no_adapter_is_said() {
    let folder = folder("no-adapter");
    write_logits(&folder.join("in.safetensors"), &logits(ROWS * VOCAB));
    let without = |arguments: &str| {
        let mut command = command(&folder, arguments);
        command.env("VK_DRIVER_FILES", "/nonexistent.json").env("VK_ICD_FILENAMES", "/nonexistent.json");
        command.output().unwrap()
    };
    let output = without("devices");
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("gpu: no adapter"));
    let output = without("eval --logits in.safetensors --objective nll --out o.safetensors --backend gpu");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.lines().last().unwrap().starts_with("error: gpu: no adapter"), "{stderr}");
}

#[test]
fn a_bad_file_is_named() {
    let folder = folder("bad-file");
    let at = |name: &str| folder.join(name);
    write_logits(&at("good.safetensors"), &logits(ROWS * VOCAB));
    let eval = |file: &str| format!("eval --logits {file} --objective nll --out out.safetensors");
    let file =
        |name: &str, logits: (&str, Dtype, &[usize], Vec<u8>), targets: (&str, Dtype, &[usize], Vec<u8>)| {
            write(&at(name), &[logits, targets]);
            eval(name)
        };
    let some = || ("logits", Dtype::F32, &[2, 3][..], f32s(&logits(6)));
    let targets = |values: &[i32]| ("targets", Dtype::I32, &[2][..], i32s(values));

    fails(&folder, &eval("absent.safetensors"), &["absent.safetensors", "cannot be read"]);

    let whole = std::fs::read(at("good.safetensors")).unwrap();
    let (long, short) = (whole.len(), whole.len() - 5);
    std::fs::write(at("short.safetensors"), &whole[..short]).unwrap();
    let numbers = [format!("expected {long} bytes"), format!("got {short}")];
    fails(&folder, &eval("short.safetensors"), &["short.safetensors", &numbers[0], &numbers[1]]);
    std::fs::write(at("header.safetensors"), &whole[..20]).unwrap();
    fails(&folder, &eval("header.safetensors"), &["header.safetensors", "got 20"]);
    std::fs::write(at("tiny.safetensors"), [1, 2, 3]).unwrap();
    fails(&folder, &eval("tiny.safetensors"), &["tiny.safetensors", "not a safetensors file"]);
    std::fs::write(at("empty.safetensors"), []).unwrap();
    fails(&folder, &eval("empty.safetensors"), &["empty.safetensors"]);
    std::fs::write(at("text.safetensors"), "this is no such file at all").unwrap();
    fails(&folder, &eval("text.safetensors"), &["text.safetensors", "not a safetensors file"]);

    let logits_of = |dtype, shape: &'static [usize], bytes| ("logits", dtype, shape, bytes);
    let wrong = file("f64.safetensors", logits_of(Dtype::F64, &[2, 3], vec![0; 48]), targets(&[0, 1]));
    fails(&folder, &wrong, &["logits is F64", "expected F32, F16 or BF16"]);
    let wrong = file("flat.safetensors", logits_of(Dtype::F32, &[6], f32s(&logits(6))), targets(&[0, 1]));
    fails(&folder, &wrong, &["logits has shape [6]", "expected [rows, vocab]"]);
    let wrong = file("none.safetensors", ("logit", Dtype::F32, &[2, 3], f32s(&logits(6))), targets(&[0, 1]));
    fails(&folder, &wrong, &["no tensor 'logits'", "only logit, targets"]);
    let wrong = file("float.safetensors", some(), ("targets", Dtype::F32, &[2], f32s(&[0.0, 1.0])));
    fails(&folder, &wrong, &["targets is F32", "expected I32 or I64"]);
    let wrong = file("longer.safetensors", some(), ("targets", Dtype::I32, &[3], i32s(&[0, 1, 2])));
    fails(&folder, &wrong, &["targets has shape [3]", "expected [2]"]);
    let wrong = file("above.safetensors", some(), targets(&[0, 3]));
    fails(&folder, &wrong, &["row 1", "target 3", "vocab of 3"]);
    let wrong = file("below.safetensors", some(), targets(&[-7, 0]));
    fails(&folder, &wrong, &["row 0", "target -7", "vocab of 3"]);
    let bytes = little_endian(&[0i64, 1 << 40], i64::to_le_bytes);
    let wrong = file("wide.safetensors", some(), ("targets", Dtype::I64, &[2], bytes));
    fails(&folder, &wrong, &["row 1", "target 1099511627776"]);
    let wrong = file("one.safetensors", logits_of(Dtype::F32, &[2, 1], f32s(&logits(2))), targets(&[0, 0]));
    fails(&folder, &wrong, &["vocab", "got 1"]);
    let wrong = file(
        "zero.safetensors",
        logits_of(Dtype::F32, &[0, 3], vec![]),
        ("targets", Dtype::I32, &[0], vec![]),
    );
    fails(&folder, &wrong, &["rows", "got 0"]);
    let weights = ("weights", Dtype::F32, &[2][..], f32s(&[1.0, -1.0]));
    write(&at("weights.safetensors"), &[some(), targets(&[0, 1]), weights]);
    fails(&folder, &eval("weights.safetensors"), &["weights", "row 1", "-1"]);
    let masked = f32s(&[0.0, 0.0, 0.0, f32::NEG_INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY]);
    let wrong = file("masked.safetensors", logits_of(Dtype::F32, &[2, 3], masked), targets(&[0, 1]));
    fails(&folder, &wrong, &["row 1", "-inf in all 3 columns"]);
    assert!(!at("out.safetensors").exists());

    let unwritable = "eval --logits good.safetensors --objective nll --out absent/out.safetensors";
    fails(&folder, unwritable, &["absent/out.safetensors", "cannot be written"]);
}

#[test]
fn a_bad_option_is_named() {
    let folder = folder("bad-option");
    write_logits(&folder.join("in.safetensors"), &logits(ROWS * VOCAB));
    let eval = "eval --logits in.safetensors --out out.safetensors --objective";
    fails(&folder, &format!("{eval} nlll"), &["'nlll'", "expected nll"]);
    fails(&folder, &format!("{eval} power:beta=1"), &["power", "'beta'", "alpha"]);
    fails(&folder, &format!("{eval} power:alpha=99"), &["power", "alpha = 99", "-1 to 16"]);
    fails(&folder, &format!("{eval} thresholded:inner=nll,lo=0.5,hi=0.2"), &["0.5", "0.2"]);
    fails(&folder, &format!("{eval} nll --level mmx"), &["level", "'mmx'", "portable"]);
    fails(&folder, &format!("{eval} nll --level portable --backend gpu"), &["level", "gpu"]);
    fails(&folder, &format!("{eval} nll --backend tpu"), &["'tpu'", "cpu, gpu"]);
    fails(&folder, &format!("{eval} nll --dtype f8"), &["'f8'", "bf16"]);
    fails(&folder, &format!("{eval} nll --denominator -1"), &["denominator"]);
    fails(&folder, &format!("{eval} nll --denominator 0"), &["denominator", "got 0"]);
    fails(&folder, &format!("{eval} nll --denominator all"), &["denominator", "'all'"]);
    fails(&folder, "eval", &["--logits", "--hidden", "--objective", "--out"]);
    fails(&folder, &format!("{eval} nll --hidden in.safetensors"), &["--logits", "--hidden"]);
    for option in ["--head in.safetensors", "--dweight", "--dbias", "--memory 1MiB", "--row-tolerance 1"] {
        let name = option.split(' ').next().unwrap();
        fails(&folder, &format!("{eval} nll {option}"), &["--logits", name]);
    }
    let hidden = "eval --hidden in.safetensors --out out.safetensors --objective nll";
    fails(&folder, hidden, &["--head"]);
    fails(&folder, &format!("{hidden} --head in.safetensors --memory 1PB"), &["--memory", "'1PB'", "MiB"]);
    fails(&folder, "nonsense", &["nonsense"]);
    fails(&folder, "--noise 1.5", &["noise", "1.5"]);
    fails(&folder, "--noise 0,-0.1", &["noise", "-0.1"]);
    fails(&folder, "--rate -1", &["rate", "-1"]);
    fails(&folder, "--objective nll --objective no", &["'no'"]);
    fails(&folder, "continuum --pretrain 10,5,20", &["pretrain", "[10, 5, 20]"]);
    fails(&folder, "continuum --seeds 0", &["seeds", "got 0"]);
    fails(&folder, "continuum --rate nan", &["rate", "NaN"]);
    fails(&folder, "continuum --out absent/x", &["absent/x", "cannot be written"]);
    fails(&folder, "bench --vocab 1", &["vocab", "got 1"]);
    fails(&folder, "bench --rows 0", &["rows", "got 0"]);
    fails(&folder, "bench --runs 0", &["runs", "got 0"]);
    fails(&folder, "bench --dim 8", &["--linear"]);
    fails(&folder, "bench --memory 1MiB", &["--linear"]);
    fails(&folder, "bench --linear --dim 0", &["dim", "got 0"]);
    fails(&folder, "bench --linear --dim 99999999999999999", &["dim", "got 99999999999999999"]);
    fails(&folder, "bench --linear --dim 8 --vocab 100 --memory 1", &["budget", "1 bytes", "at least"]);
    fails(&folder, "objectives --json --svg picture.jpg", &["picture.jpg", "jpg", "svg or png"]);
    assert!(succeeds(&folder, "--help").contains("continuum"));
    assert!(succeeds(&folder, "--version").starts_with("tokenloss "));
}

/// Hidden states and a head whose products and sums are exact in f32 whatever their order, and whose elements are
/// exact in 16 bits: the logits are the same however they come about.
struct Hidden {
    rows: usize,
    dim: usize,
    vocab: usize,
    hidden: Vec<f32>,
    head: Vec<f32>,
    bias: Vec<f32>,
    targets: Vec<i32>,
    weights: Vec<f32>,
}

impl Hidden {
    fn new(rows: usize, dim: usize, vocab: usize) -> Self {
        let mut targets: Vec<i32> = (0..rows).map(|row| (row * 5 % vocab) as i32).collect();
        targets[rows / 2] = -100;
        // The first target is likely everywhere, so that thresholds keep some rows and drop some.
        let bias = (0..vocab).map(|column| if column == 0 { 6.0 } else { (column % 3) as f32 / 2.0 });
        Self {
            rows,
            dim,
            vocab,
            hidden: logits(rows * dim).iter().map(|x| x / 4.0).collect(),
            head: logits(vocab * dim).iter().rev().map(|x| x / 8.0).collect(),
            bias: bias.collect(),
            targets,
            weights: (0..rows).map(|row| [1.0, 0.5, 2.0][row % 3]).collect(),
        }
    }

    fn logits(&self) -> Vec<f32> {
        let products = (0..self.rows * self.vocab).map(|i| {
            let (row, column) = (i / self.vocab, i % self.vocab);
            let hidden = &self.hidden[row * self.dim..][..self.dim];
            let head = &self.head[column * self.dim..][..self.dim];
            hidden.iter().zip(head).fold(self.bias[column], |sum, (h, w)| sum + h * w)
        });
        products.collect()
    }

    /// As `logits.safetensors`, and as `rows.safetensors` with `head.safetensors`.
    fn write(&self, folder: &Path, dtype: Dtype) {
        let Self { rows, dim, vocab, .. } = *self;
        let of_rows = [rows];
        let with = |file: &str, name, dtype, columns: usize, bytes| {
            let tensors = [
                (name, dtype, &[rows, columns][..], bytes),
                ("targets", Dtype::I32, &of_rows, i32s(&self.targets)),
                ("weights", Dtype::F32, &of_rows, f32s(&self.weights)),
            ];
            write(&folder.join(file), &tensors);
        };
        with("logits.safetensors", "logits", Dtype::F32, vocab, f32s(&self.logits()));
        with("rows.safetensors", "hidden", dtype, dim, floats(&self.hidden, dtype));
        let head = ("lm_head", dtype, &[vocab, dim][..], floats(&self.head, dtype));
        let bias = ("bias", dtype, &[vocab][..], floats(&self.bias, dtype));
        write(&folder.join("head.safetensors"), &[head, bias]);
    }

    /// `dhidden`, `dweight` and `dbias` of a gradient of the logits, in f64.
    fn gradients(&self, dlogits: &[f32]) -> [Vec<Sum>; 3] {
        let Self { rows, dim, vocab, .. } = *self;
        let mut gradients = [rows * dim, vocab * dim, vocab].map(|length| vec![Sum::default(); length]);
        let [dhidden, dweight, dbias] = &mut gradients;
        for (i, &d) in dlogits.iter().enumerate() {
            let (row, column, d) = (i / vocab, i % vocab, f64::from(d));
            dbias[column].add(d);
            for k in 0..dim {
                dhidden[row * dim + k].add(d * f64::from(self.head[column * dim + k]));
                dweight[column * dim + k].add(d * f64::from(self.hidden[row * dim + k]));
            }
        }
        gradients
    }
}

/// A sum, and what its rounding in f32 depends on.
#[derive(Clone, Copy, Default)]
struct Sum {
    sum: f64,
    magnitude: f64,
    terms: i32,
}

impl Sum {
    fn add(&mut self, term: f64) {
        self.sum += term;
        self.magnitude += term.abs();
        self.terms += 1;
    }
}

/// `got` are those sums, formed in f32 and then rounded to `dtype`.
fn are_sums(dtype: Dtype, what: &str, got: &[f32], expected: &[Sum], of_a_term: f64) {
    let rounding = match dtype {
        Dtype::F32 => 0.0,
        Dtype::F16 => 2f64.powi(-11),
        _ => 2f64.powi(-8),
    };
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (&got, &Sum { sum, magnitude, terms })) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(got) - sum).abs();
        // Each addition rounds once; what is below 2^-24 has fewer digits in f16.
        let sums = (of_a_term + f64::from(terms) * 2f64.powi(-24)) * magnitude;
        let least = if dtype == Dtype::F16 { 2f64.powi(-25) } else { 0.0 };
        assert!(error <= sums + rounding * sum.abs() + least, "{what}[{i}]: {got} is not {sum}");
    }
}

/// Two gradients of a logit, each within 1e-6 + 1e-7 of a margin of at most 16.
const OF_A_TERM: f64 = 2.0 * (1e-6 + 16.0 * 1e-7);

/// What `least` in the message of a budget that is too small says.
fn least_budget(folder: &Path, arguments: &str) -> usize {
    let stderr = String::from_utf8(run(folder, arguments).stderr).unwrap();
    stderr.trim_end().rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn eval_is_the_same_from_logits_and_from_hidden_states() {
    let folder = folder("eval-hidden");
    let (rows, dim, vocab) = (9, 6, 2500);
    let case = Hidden::new(rows, dim, vocab);
    let (a, b) = (folder.join("a.safetensors"), folder.join("b.safetensors"));
    let with =
        "--hidden rows.safetensors --head head.safetensors --out b.safetensors --json --dweight --dbias";
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        case.write(&folder, dtype);
        let least = least_budget(&folder, &format!("eval {with} --objective nll --memory 1"));
        for spec in ["nll", "power:alpha=2", "thresholded:inner=nll,lo=0.05"] {
            for denominator in ["valid", "kept"] {
                let what = format!("--objective {spec} --denominator {denominator}");
                let expected = json(
                    &folder,
                    &format!("eval --logits logits.safetensors --out a.safetensors --json {what}"),
                );
                let dlogits = read_f32(&a, "dlogits", &[rows, vocab]);
                let [dhidden, dweight, dbias] = case.gradients(&dlogits);
                for memory in ["64MiB".to_owned(), least.to_string()] {
                    let totals = json(&folder, &format!("eval {with} {what} --memory {memory}"));
                    for count in ["valid", "kept", "live", "ignored", "weight_sum", "denominator"] {
                        assert_eq!(totals[count], expected[count], "{dtype:?} {what} {memory}: {count}");
                    }
                    for name in ["losses", "log_p", "lse", "entropy"] {
                        let wide: Vec<f64> = read_f32(&a, name, &[rows]).into_iter().map(f64::from).collect();
                        close(name, &read_f32(&b, name, &[rows]), &wide, 1e-6);
                    }
                    let argmax = |file| read(file, "argmax", Dtype::I32, &[rows]);
                    assert_eq!(argmax(&a), argmax(&b));
                    let got = read_floats(&b, "dhidden", dtype, &[rows, dim]);
                    are_sums(dtype, "dhidden", &got, &dhidden, OF_A_TERM);
                    let got = read_f32(&b, "dweight", &[vocab, dim]);
                    are_sums(Dtype::F32, "dweight", &got, &dweight, OF_A_TERM);
                    let got = read_f32(&b, "dbias", &[vocab]);
                    are_sums(Dtype::F32, "dbias", &got, &dbias, OF_A_TERM);
                }
            }
        }
        let live = json(&folder, &format!("eval {with} --objective thresholded:inner=nll,lo=0.05"));
        assert!((1..8).contains(&live["live"].as_u64().unwrap()), "{live}");
    }

    // Only what was asked for.
    let plain = "eval --hidden rows.safetensors --head head.safetensors --objective nll --out b.safetensors";
    let table = succeeds(&folder, plain);
    assert!(
        table.contains("9 x 2500 from hidden states of dim 6, bf16") && table.contains("8 live"),
        "{table}"
    );
    assert_eq!(names(&b), ["argmax", "dhidden", "entropy", "log_p", "losses", "lse"]);
    succeeds(&folder, &format!("{plain} --dweight"));
    assert_eq!(names(&b), ["argmax", "dhidden", "dweight", "entropy", "log_p", "losses", "lse"]);

    // No row reaches this tolerance.
    let totals = json(&folder, &format!("{plain} --json --row-tolerance 10"));
    assert_eq!(totals["live"], 0);
    assert!(read_floats(&b, "dhidden", Dtype::BF16, &[rows, dim]).iter().all(|&d| d == 0.0));
    // No block reaches this one.
    succeeds(&folder, &format!("{plain} --block-tolerance 10"));
    assert!(read_floats(&b, "dhidden", Dtype::BF16, &[rows, dim]).iter().all(|&d| d == 0.0));

    // Of two types, f32 holds both; another is what --dtype asks for.
    let head = ("weight", Dtype::F32, &[vocab, dim][..], f32s(&case.head));
    let bias = ("bias", Dtype::F16, &[vocab][..], floats(&case.bias, Dtype::F16));
    write(&folder.join("head.safetensors"), &[head, bias]);
    let expected: Vec<f64> = read_f32(&b, "log_p", &[rows]).into_iter().map(f64::from).collect();
    assert_eq!(json(&folder, &format!("{plain} --json"))["dtype"], "f32");
    read(&b, "dhidden", Dtype::F32, &[rows, dim]);
    close("log_p", &read_f32(&b, "log_p", &[rows]), &expected, 1e-6);
    succeeds(&folder, &format!("{plain} --dtype f16"));
    read(&b, "dhidden", Dtype::F16, &[rows, dim]);
    close("log_p", &read_f32(&b, "log_p", &[rows]), &expected, 1e-6);
}

#[test]
fn a_bad_head_is_named() {
    let folder = folder("bad-head");
    let (rows, dim, vocab) = (9, 6, 20);
    let mut case = Hidden::new(rows, dim, vocab);
    case.write(&folder, Dtype::F32);
    let eval = |rows: &str, head: &str| {
        format!(
            "eval --hidden {rows}.safetensors --head {head}.safetensors --objective nll --out o.safetensors"
        )
    };
    let good = eval("rows", "head");
    let file = |name: &str, tensors: &[(&str, Dtype, &[usize], Vec<u8>)]| {
        write(&folder.join(format!("{name}.safetensors")), tensors);
    };
    fails(&folder, &eval("rows", "absent"), &["absent.safetensors", "cannot be read"]);
    fails(&folder, &eval("head", "head"), &["head.safetensors", "no tensor 'hidden'", "only bias, lm_head"]);
    fails(&folder, &eval("rows", "logits"), &["logits.safetensors", "no tensor 'lm_head'"]);
    file("narrow", &[("weight", Dtype::F32, &[4, 5], f32s(&logits(20)))]);
    let numbers = ["rows.safetensors", "dim 6", "weight of narrow.safetensors", "dim 5"];
    fails(&folder, &eval("rows", "narrow"), &numbers);
    file("flat", &[("lm_head", Dtype::F32, &[20], f32s(&logits(20)))]);
    fails(&folder, &eval("rows", "flat"), &["flat.safetensors", "shape [20]", "expected [vocab, dim]"]);
    file("double", &[("lm_head", Dtype::F64, &[2, 6], vec![0; 96])]);
    fails(&folder, &eval("rows", "double"), &["double.safetensors", "lm_head is F64", "BF16"]);
    let lm_head = || ("lm_head", Dtype::F32, &[20, 6][..], f32s(&logits(120)));
    file("short", &[lm_head(), ("bias", Dtype::F32, &[19], f32s(&logits(19)))]);
    fails(&folder, &eval("rows", "short"), &["short.safetensors", "bias has shape [19]", "expected [20]"]);
    file("whole", &[lm_head(), ("bias", Dtype::I32, &[20], i32s(&[0; 20]))]);
    fails(&folder, &eval("rows", "whole"), &["whole.safetensors", "bias is I32", "BF16"]);
    file("one", &[("lm_head", Dtype::F32, &[1, 6], f32s(&logits(6)))]);
    fails(&folder, &eval("rows", "one"), &["one.safetensors", "vocab", "got 1"]);
    let targets = |values: &[i32]| ("targets", Dtype::I32, &[2][..], i32s(values));
    let hidden = || ("hidden", Dtype::F32, &[2, 6][..], f32s(&logits(12)));
    file("above", &[hidden(), targets(&[0, 20])]);
    fails(&folder, &eval("above", "head"), &["above.safetensors", "row 1", "target 20", "vocab of 20"]);
    file("weights", &[hidden(), targets(&[0, 1]), ("weights", Dtype::F32, &[2], f32s(&[1.0, -1.0]))]);
    fails(&folder, &eval("weights", "head"), &["weights.safetensors", "weights", "row 1", "-1"]);
    file("halves", &[hidden(), targets(&[0, 1]), ("weights", Dtype::F16, &[2], vec![0; 4])]);
    fails(&folder, &eval("halves", "head"), &["halves.safetensors", "weights is F16", "expected F32"]);
    file("empty", &[("hidden", Dtype::F32, &[2, 0], vec![]), targets(&[0, 1])]);
    file("empty-head", &[("lm_head", Dtype::F32, &[20, 0], vec![])]);
    fails(&folder, &eval("empty", "empty-head"), &["empty.safetensors", "dim", "got 0"]);

    fails(&folder, &format!("{good} --row-tolerance -1"), &["row_tolerance", "-1"]);
    fails(&folder, &format!("{good} --block-tolerance nan"), &["block_tolerance", "NaN"]);
    let least = least_budget(&folder, &format!("{good} --memory 1"));
    let numbers = ["rows.safetensors", "budget", &(least - 1).to_string(), &format!("at least {least}")];
    fails(&folder, &format!("{good} --memory {}", least - 1), &numbers);
    fails(&folder, &format!("{good} --memory 0"), &["--memory", "'0'"]);
    assert!(!folder.join("o.safetensors").exists());
    succeeds(&folder, &format!("{good} --memory {least}"));

    case.hidden[3 * dim + 1] = f32::NAN;
    case.write(&folder, Dtype::F32);
    fails(&folder, &good, &["rows.safetensors", "row 3", "column 0", "NaN"]);
    succeeds(&folder, &format!("{good} --non-finite nan"));
    let dhidden = read_f32(&folder.join("o.safetensors"), "dhidden", &[rows, dim]);
    for (row, dhidden) in dhidden.chunks(dim).enumerate() {
        assert!(dhidden.iter().all(|d| d.is_nan() == (row == 3)), "{row}: {dhidden:?}");
    }
}

#[test]
fn place_is_the_same_from_logits_and_from_hidden_states() {
    let folder = folder("place");
    let (rows, dim, vocab) = (9, 6, 20);
    Hidden::new(rows, dim, vocab).write(&folder, Dtype::BF16);
    let expected = json(&folder, "place --rows logits.safetensors --log-p a.safetensors --json");
    let log_p: Vec<f64> =
        read_f32(&folder.join("a.safetensors"), "log_p", &[rows]).into_iter().map(f64::from).collect();
    let valid: Vec<f64> = log_p.iter().copied().filter(|log_p| !log_p.is_nan()).collect();
    let count = (rows - 1) as f64;
    assert_eq!((valid.len(), log_p[rows / 2].is_nan()), (rows - 1, true));
    assert_eq!((&expected["rows"], &expected["ignored"]), (&9.into(), &1.into()));
    // log_p is rounded to f32 in the file.
    let mean = valid.iter().map(|l| l.exp()).sum::<f64>() / count;
    assert!((expected["mean_p"].as_f64().unwrap() - mean).abs() < 1e-6);
    assert!((expected["mean_log_p"].as_f64().unwrap() - valid.iter().sum::<f64>() / count).abs() < 1e-6);
    assert_eq!(expected["percentiles"].as_array().unwrap().len(), 19);
    let mut tenths = [0; 10];
    valid.iter().for_each(|log_p| tenths[(log_p.exp() * 10.0) as usize] += 1);
    assert_eq!(expected["rows_by_decile_of_p"], serde_json::json!(tenths));
    for shares in expected["weights"].as_array().unwrap() {
        let objective = Objective::parse(shares["objective"].as_str().unwrap()).unwrap();
        let mut weights = [0.0; 10];
        let (mut squares, mut live) = (0.0, 0);
        for &log_p in &valid {
            let weight = tokenloss::theory::weight(&objective, log_p.exp());
            weights[(log_p.exp() * 10.0) as usize] += weight;
            squares += weight * weight;
            live += usize::from(weight > 0.0);
        }
        let sum: f64 = weights.iter().sum();
        let near = |got: &Value, expected: f64| (got.as_f64().unwrap() - expected).abs() < 1e-5;
        for (got, weight) in shares["weight_by_decile_of_p"].as_array().unwrap().iter().zip(weights) {
            assert!(near(got, weight / sum), "{shares}");
        }
        assert!(near(&shares["effective_tokens"], sum * sum / squares), "{shares}");
        assert_eq!(shares["live"], live, "{shares}");
    }

    // The least that works, a little more, plenty.
    let with = "place --rows rows.safetensors --head head.safetensors --json";
    let least = least_budget(&folder, &format!("{with} --memory 1"));
    for memory in [least.to_string(), (least + 400).to_string(), "1MiB".to_owned()] {
        let report = json(&folder, &format!("{with} --memory {memory} --log-p b.safetensors"));
        let got = read_f32(&folder.join("b.safetensors"), "log_p", &[rows]);
        close(&memory, &got, &log_p, 1e-6);
        assert_eq!(report["rows_by_decile_of_p"], expected["rows_by_decile_of_p"]);
        assert_eq!(report["region"], expected["region"]);
    }
    let (too_little, least) = ((least - 1).to_string(), format!("at least {least}"));
    fails(&folder, &format!("{with} --memory {too_little}"), &["budget", &too_little, &least]);
    let memory = "place --rows logits.safetensors --memory 79";
    fails(&folder, memory, &["memory", "79", "least that works is 80"]);
    fails(&folder, "place --rows logits.safetensors --memory much", &["memory", "'much'"]);
    fails(&folder, "place --rows logits.safetensors --weak 0.9", &["0.9", "0.675"]);
    fails(&folder, "place --rows rows.safetensors", &["rows.safetensors", "--head"]);
    fails(&folder, "place --rows head.safetensors", &["head.safetensors", "neither logits"]);
    let swapped = "place --rows rows.safetensors --head logits.safetensors";
    fails(&folder, swapped, &["logits.safetensors", "no tensor 'lm_head'"]);
    let narrow = ("lm_head", Dtype::F32, &[4, 5][..], f32s(&logits(20)));
    write(&folder.join("narrow.safetensors"), &[narrow]);
    let narrow = "place --rows rows.safetensors --head narrow.safetensors";
    fails(&folder, narrow, &["dim 6", "dim 5"]);

    assert_picture(&folder.join("tokenloss-place"));
    let table = succeeds(&folder, "place --rows logits.safetensors");
    assert!(table.contains("mean p") && table.contains("Label noise decides"), "{table}");
    assert!(table.contains("live rows"), "{table}");
}

#[test]
fn place_agrees_with_a_real_model() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    if !data.join("smollm2-135m-lm_head.safetensors").exists() {
        println!("place: not tested on real rows, {} is absent", data.display());
        return;
    }
    let folder = folder("place-real");
    let data = data.canonicalize().unwrap();
    let cases = [("gsm8k", 1024, 0.5424, "intermediate"), ("figfont", 256, 0.0094, "weak")];
    for (name, rows, mean_p, region) in cases {
        let file = data.join(format!("smollm2-135m-{name}.safetensors"));
        let head = data.join("smollm2-135m-lm_head.safetensors");
        let arguments = format!(
            "place --rows {} --head {} --log-p log_p.safetensors --json --out {name}",
            file.display(),
            head.display()
        );
        let report = json(&folder, &arguments);
        assert!((report["mean_p"].as_f64().unwrap() - mean_p).abs() < 5e-5, "{name}: {}", report["mean_p"]);
        assert_eq!(report["region"], region);
        let truth = read(&file, "log_p_f64", Dtype::F64, &[rows]);
        let truth: Vec<f64> =
            truth.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect();
        let got = read_f32(&folder.join("log_p.safetensors"), "log_p", &[rows]);
        let worst = got.iter().zip(&truth).map(|(g, t)| (f64::from(*g) - t).abs()).fold(0.0, f64::max);
        println!("{name}: mean p {}, worst log_p error {worst:e}", report["mean_p"]);
        assert!(worst < 2e-4, "{name}: {worst}");

        // What place says of a threshold is what a gradient under it costs.
        let spec = "thresholded:inner=nll,lo=0.2";
        let place = report["weights"].as_array().unwrap().iter().find(|w| w["objective"] == spec).unwrap();
        let arguments = format!(
            "eval --hidden {} --head {} --objective {spec} --out out.safetensors --json",
            file.display(),
            head.display()
        );
        let totals = json(&folder, &arguments);
        assert_eq!((&totals["live"], &totals["kept"]), (&place["live"], &place["live"]), "{name}");
        let out = folder.join("out.safetensors");
        let dhidden = read_floats(&out, "dhidden", Dtype::BF16, &[rows, 576]);
        let pushed = dhidden.chunks(576).filter(|row| row.iter().any(|&d| d != 0.0)).count();
        assert_eq!(totals["live"], pushed, "{name}");
        let again = read_f32(&out, "log_p", &[rows]);
        assert!(again.iter().zip(&truth).all(|(g, t)| (f64::from(*g) - t).abs() < 2e-4), "{name}");
    }
}

/// `PREFIX.svg` and `PREFIX.png` are what they say.
fn assert_picture(prefix: &Path) {
    let svg = std::fs::read_to_string(prefix.with_extension("svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && svg.contains("<text"));
    assert_png(&prefix.with_extension("png"));
}

fn assert_png(file: &Path) {
    let png = std::fs::read(file).unwrap();
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.ends_with(b"IEND\xaeB\x60\x82"));
    let pixels = resvg::tiny_skia::Pixmap::decode_png(&png).unwrap();
    assert!(pixels.width() >= 1000 && pixels.height() >= 500);
    // Text is drawn with our own font: a picture without any has far fewer dark pixels.
    let dark = pixels.pixels().iter().filter(|p| p.red() < 120 && p.green() < 120 && p.blue() < 120).count();
    assert!(dark > 5000, "{dark} dark pixels");
}

#[test]
fn continuum_is_complete_and_repeats() {
    let folder = folder("continuum");
    let small = "--seeds 2 --noise 0,0.3 --objective nll --objective power:alpha=1 --pretrain 2,4,8 --steps 6 \
                 --examples 64 --batch 16 --vocab 16 --dim 4 --hidden 8 --test 64 --json";
    let arguments = |out: &str| format!("{small} --out {out}");
    let mut first = json(&folder, &arguments("a"));
    let cells = first["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 3 * 2 * 2);
    for capability in ["weak", "intermediate", "strong"] {
        for noise in [0.0, 0.3] {
            let group = |c: &&Value| c["capability"] == capability && c["noise"] == noise;
            let group: Vec<_> = cells.iter().filter(group).collect();
            assert_eq!(group.len(), 2);
            assert!(group.iter().any(|cell| cell["best"] == true));
            for (cell, objective) in group.iter().zip(["nll", "power:alpha=1"]) {
                assert_eq!(cell["objective"], objective);
                assert_eq!(cell["accuracy"]["seeds"].as_array().unwrap().len(), 2);
                assert!((0.0..=1.0).contains(&cell["accuracy"]["mean"].as_f64().unwrap()));
                assert!(cell["accuracy"]["sd"].as_f64().unwrap() >= 0.0);
                assert!((0.0..=1.0).contains(&cell["mean_p_before"]["mean"].as_f64().unwrap()));
            }
        }
    }
    assert_eq!(first["findings"].as_array().unwrap().len(), 5);
    assert_picture(&folder.join("a"));

    // The same with the command's name, and with another number of threads.
    let mut command = command(&folder, &format!("continuum {}", arguments("b")));
    let output = command.env("RAYON_NUM_THREADS", "3").output().unwrap();
    let mut second: Value = serde_json::from_slice(&output.stdout).unwrap();
    for json in [&mut first, &mut second] {
        assert!(json.as_object_mut().unwrap().remove("seconds").is_some());
    }
    assert_eq!(first, second);
    let picture = |name: &str| std::fs::read(folder.join(name)).unwrap();
    assert_eq!(picture("a.svg"), picture("b.svg"));
    assert_eq!(picture("a.png"), picture("b.png"));
    let mut other = json(&folder, &format!("{} --seed 7", arguments("c")));
    other.as_object_mut().unwrap().remove("seconds");
    assert_ne!(first["cells"], other["cells"]);

    let output = run(&folder, &arguments("d").replace("--json", ""));
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(stdout.contains("± ") && stdout.contains("strong") && stdout.contains(" *"), "{stdout}");
    assert!(stderr.contains("pretraining") && stderr.contains("fine-tuning"), "{stderr}");
    assert!(stderr.contains("wrote d.svg and d.png"), "{stderr}");
}

#[test]
fn bench_measures_beside_a_copy() {
    let folder = folder("bench");
    for dtype in ["f32", "bf16", "f16"] {
        let report = json(&folder, &format!("bench --vocab 1000 --rows 4 --runs 3 --dtype {dtype} --json"));
        let timings = report["timings"].as_array().unwrap();
        let names: Vec<_> = timings.iter().map(|t| t["what"].as_str().unwrap()).collect();
        assert_eq!(names, ["copy of the same bytes", "out of place", "in place", "losses only"]);
        assert!(timings.iter().all(|t| t["seconds"].as_f64().unwrap() > 0.0));
        assert_eq!(timings[0]["ratio_to_copy"], 1.0);
    }
    assert!(succeeds(&folder, "bench --vocab 100 --rows 2 --runs 1").contains("GB/s"));
}

#[test]
fn bench_measures_the_linear_form_beside_bare_products() {
    let folder = folder("bench-linear");
    let common = "bench --linear --dim 32 --vocab 2000 --rows 8 --runs 3";
    for dtype in ["f32", "bf16", "f16"] {
        let report = json(&folder, &format!("{common} --dtype {dtype} --memory 1MiB --json"));
        let timings = report["timings"].as_array().unwrap();
        let names: Vec<_> = timings.iter().map(|t| t["what"].as_str().unwrap()).collect();
        assert_eq!(
            names,
            ["three bare products, f32", "dhidden and dweight", "frozen head: dhidden", "forward only"]
        );
        assert!(timings.iter().all(|t| t["seconds"].as_f64().unwrap() > 0.0));
        assert_eq!(timings[0]["ratio"], 1.0);
        assert_eq!((&timings[1]["live"], &timings[2]["live"]), (&8.into(), &8.into()));
    }
    let table = succeeds(&folder, &format!("{common} --row-tolerance 10"));
    assert!(table.contains("8 x 32 x 2000 f32") && table.contains("live rows"), "{table}");
}

#[test]
fn objectives_are_all_listed() {
    let folder = folder("objectives");
    let table = succeeds(&folder, "objectives --svg all.svg");
    let list = json(&folder, "objectives --json --svg all.png");
    let markdown = succeeds(&folder, "objectives --markdown");
    assert_eq!(list.as_array().unwrap().len(), tokenloss::CATALOGUE.len());
    for (kind, of_kind) in tokenloss::CATALOGUE.iter().zip(list.as_array().unwrap()) {
        assert_eq!(of_kind["kind"], kind.name);
        assert_eq!(of_kind["objectives"].as_array().unwrap().len(), kind.entries.len());
        let only = succeeds(&folder, &format!("objectives --kind {}", kind.name));
        for entry in kind.entries {
            assert!(table.contains(entry.name), "{} is missing in {table}", entry.name);
            assert!(only.contains(entry.name) && markdown.contains(&format!("| `{}` |", entry.name)));
        }
    }
    assert_picture(&folder.join("all"));
}
