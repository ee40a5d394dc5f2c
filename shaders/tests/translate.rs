//! Every assembled shader is valid WGSL and translates to SPIR-V, MSL and HLSL, so that Metal and DX12 are checked
//! without the hardware. With TOKENLOSS_SPIRV_OUT set, the SPIR-V is written to that folder for spirv-val.

use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Module, ShaderStage, back, front::wgsl};
use tokenloss_core::divergence::AnyDivergence;
use tokenloss_core::label::AnyLabel;
use tokenloss_core::{AnyRow, AnyToken, Composite, Dtype, MAX_TERMS, Nll, Thresholded, Unjudged};
use tokenloss_shaders::{
    Live, Map, Matrices, Product, Program, Reduce, ShaderObjective, Store, Tiles, Width,
};

/// The storage types of a teacher that guides rows, and none.
const GUIDES: [Option<Dtype>; 4] = [None, Some(Dtype::F32), Some(Dtype::F16), Some(Dtype::Bf16)];

fn programs() -> Vec<Program> {
    let mut all = vec![
        Program::Gather,
        Program::Totals,
        Program::Copy,
        Program::SumBias,
        Program::Judge,
        Program::PairJudge,
    ];
    all.extend(Live::ALL.map(|live| Program::Compact { live }));
    for (teacher, reduce) in
        Dtype::ALL.into_iter().flat_map(|teacher| [(teacher, Reduce::Tree), (teacher, Reduce::Subgroup)])
    {
        all.extend([false, true].map(|temperature| Program::PairPart { teacher, reduce, temperature }));
    }
    for width in [Width::Word, Width::Vec4] {
        for reduce in [Reduce::Tree, Reduce::Subgroup] {
            for map in Map::ALL {
                all.push(Program::Part { width, reduce, map });
            }
        }
    }
    for dtype in Dtype::ALL {
        all.extend([Program::StoreHidden { dtype }, Program::Take { dtype }, Program::Put { dtype }]);
        for product in [Product::Logits, Product::Hidden, Product::Weight] {
            all.push(Program::Product { product, dtype, tiles: Tiles::Registers });
        }
        for width in [Width::Word, Width::Vec4] {
            for map in Map::ALL {
                all.push(Program::TopK { dtype, width, map });
                for reduce in [Reduce::Tree, Reduce::Subgroup] {
                    all.push(Program::Summarise { dtype, width, reduce, map });
                    for store in [Store::None, Store::InPlace, Store::OutOfPlace] {
                        for guide in GUIDES {
                            all.push(Program::Evaluate { dtype, width, store, reduce, map, guide });
                        }
                    }
                }
                for store in [Store::InPlace, Store::OutOfPlace] {
                    for guide in GUIDES {
                        all.push(Program::PushBack { dtype, width, store, map, guide });
                    }
                }
            }
        }
    }
    all
}

/// Those of two rows.
fn pairs() -> Vec<Program> {
    let mut all = Vec::new();
    for (dtype, teacher) in
        Dtype::ALL.into_iter().flat_map(|dtype| Dtype::ALL.map(|teacher| (dtype, teacher)))
    {
        for width in [Width::Word, Width::Vec4] {
            for reduce in [Reduce::Tree, Reduce::Subgroup] {
                for store in [Store::None, Store::InPlace, Store::OutOfPlace] {
                    for temperature in [false, true] {
                        all.push(Program::Pair { dtype, teacher, width, store, reduce, temperature });
                    }
                }
            }
        }
    }
    all
}

/// Those of rows with labels.
fn labels() -> Vec<Program> {
    let mut all = Vec::new();
    for (dtype, labels) in Dtype::ALL.into_iter().flat_map(|dtype| Dtype::ALL.map(|labels| (dtype, labels))) {
        for width in [Width::Word, Width::Vec4] {
            for reduce in [Reduce::Tree, Reduce::Subgroup] {
                for store in [Store::None, Store::InPlace, Store::OutOfPlace] {
                    all.push(Program::Labels { dtype, labels, width, store, reduce });
                }
            }
        }
    }
    all
}

/// Every listed label objective, by its defaults.
fn label_objectives() -> Vec<AnyLabel> {
    let of = |name: &&str| {
        let parameters = AnyLabel::parameters_of(name).unwrap();
        let values = std::array::from_fn(|i| parameters.get(i).map_or(0.0, |parameter| parameter.default));
        AnyLabel::with_parameters(name, values).unwrap().unwrap()
    };
    AnyLabel::NAMES.iter().map(of).collect()
}

/// Those of pairs without logits that know a divergence.
fn pairs_of_tiles() -> Vec<Program> {
    let of = |teacher| [Program::PairSums { teacher }, Program::PairPushBack { teacher }];
    Dtype::ALL.into_iter().flat_map(of).collect()
}

/// Every listed divergence, by its defaults: parameters are no part of a text.
fn divergences() -> Vec<AnyDivergence> {
    let of = |name: &&str| {
        let parameters = AnyDivergence::parameters_of(name).unwrap();
        let values = std::array::from_fn(|i| parameters.get(i).map_or(0.0, |parameter| parameter.default));
        AnyDivergence::with_parameters(name, values).unwrap().unwrap()
    };
    AnyDivergence::NAMES.iter().map(of).collect()
}

/// Every listed objective, plain, gated where it can be, and in sums.
fn objectives() -> Vec<Composite> {
    let gated = AnyToken::NAMES.iter().map(|name| format!("thresholded:inner={name},lo=0.1"));
    let plain = AnyToken::NAMES.iter().chain(AnyRow::NAMES).map(|name| (*name).to_owned());
    // Terms side by side, so that every pair of neighbours shares a text.
    let sums = AnyRow::NAMES.windows(MAX_TERMS).map(|names| names.join(" + "));
    let twice = "thresholded:inner=nll,lo=0.1 + thresholded:inner=focal,lo=0.2 + z_loss + z_loss".to_owned();
    gated.chain(plain).chain(sums).chain([twice]).map(|spec| Composite::parse(&spec).unwrap()).collect()
}

fn validate(module: &Module, capabilities: Capabilities) -> Result<ModuleInfo, String> {
    Validator::new(ValidationFlags::all(), capabilities)
        .validate(module)
        .map_err(|e| format!("{:?}", e.into_inner()))
}

fn module(text: &str) -> Result<(Module, ModuleInfo), String> {
    let module = wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
    let info = validate(&module, Capabilities::all())?;
    let constants = [("WG".to_owned(), 256.0)].into_iter().collect();
    let stage = Some((ShaderStage::Compute, "main"));
    // Overrides must be gone before a writer sees the module.
    let (module, info) = back::pipeline_constants::process_overrides(&module, &info, stage, &constants)
        .map_err(|e| e.to_string())?;
    Ok((module.into_owned(), info.into_owned()))
}

// Writers do not refuse what they cannot express: each is asked what it supports first.

fn write_msl((module, info): &(Module, ModuleInfo)) -> Result<(), String> {
    validate(module, back::msl::supported_capabilities())?;
    let options = back::msl::Options { lang_version: (2, 4), ..Default::default() };
    let point = back::msl::PipelineOptions {
        entry_point: Some((ShaderStage::Compute, "main".into())),
        ..Default::default()
    };
    back::msl::write_string(module, info, &options, &point).map(|_| ()).map_err(|e| e.to_string())
}

fn write_hlsl((module, info): &(Module, ModuleInfo)) -> Result<(), String> {
    validate(module, back::hlsl::supported_capabilities())?;
    let options = back::hlsl::Options {
        shader_model: back::hlsl::ShaderModel::V6_2,
        fake_missing_bindings: true,
        ..Default::default()
    };
    let point = back::hlsl::PipelineOptions { entry_point: Some((ShaderStage::Compute, "main".into())) };
    let mut hlsl = String::new();
    let mut writer = back::hlsl::Writer::new(&mut hlsl, &options, &point);
    writer.write(module, info, None).map(|_| ()).map_err(|e| e.to_string())
}

fn write_spirv((module, info): &(Module, ModuleInfo)) -> Result<Vec<u32>, String> {
    validate(module, back::spv::supported_capabilities())?;
    let options = back::spv::Options { lang_version: (1, 3), ..Default::default() };
    let point = back::spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: "main".into() };
    back::spv::write_vec(module, info, &options, Some(&point)).map_err(|e| e.to_string())
}

/// The SPIR-V; MSL and HLSL are written and dropped.
fn translate(text: &str) -> Result<Vec<u32>, String> {
    let module = module(text)?;
    write_msl(&module)?;
    write_hlsl(&module)?;
    write_spirv(&module)
}

fn check(name: &str, text: &str) {
    let words = translate(text).unwrap_or_else(|e| panic!("{name}: {e}"));
    if let Some(folder) = std::env::var_os("TOKENLOSS_SPIRV_OUT") {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(std::path::Path::new(&folder).join(format!("{name}.spv")), bytes).unwrap();
    }
}

fn file_name(program: Program) -> String {
    let name = format!("{program:?}").to_lowercase();
    name.chars().filter(|c| c.is_alphanumeric() || *c == ' ').collect::<String>().replace(' ', "-")
}

/// WebGPU's defaults allow eight storage buffers.
#[test]
fn no_program_binds_more_than_eight_buffers() {
    let all = programs().into_iter().chain(pairs()).chain(pairs_of_tiles()).chain(labels());
    assert_eq!(all.map(|program| program.bindings().len()).max(), Some(8));
}

#[test]
fn every_program_translates() {
    for program in programs() {
        check(&file_name(program), &program.assemble(&Nll));
    }
}

#[test]
fn every_pair_translates() {
    let divergence = &divergences()[0];
    for program in pairs() {
        check(&file_name(program), &program.assemble_pair(&Nll, divergence));
    }
}

/// Each over the softmax and over the sigmoid.
#[test]
fn every_program_of_labels_translates() {
    for program in labels() {
        for name in ["soft_targets", "binary_nll"] {
            let objective = AnyLabel::with_parameters(name, [1.0; 4]).unwrap().unwrap();
            check(&format!("{}-{name}", file_name(program)), &program.assemble_labels(&objective));
        }
    }
}

#[test]
fn every_label_objective_translates() {
    let programs = labels().into_iter().filter(|program| {
        matches!(program, Program::Labels { dtype: Dtype::F32, labels: Dtype::F32, width: Width::Vec4, .. })
    });
    for program in programs {
        for objective in label_objectives() {
            check(
                &format!("{}-{}", file_name(program), objective.name()),
                &program.assemble_labels(&objective),
            );
        }
    }
}

#[test]
fn every_divergence_translates_without_logits() {
    for program in pairs_of_tiles() {
        for divergence in divergences() {
            let name = format!("{}-{}", file_name(program), divergence.name());
            check(&name, &program.assemble_with(&Program::compare(&divergence)));
        }
    }
}

#[test]
fn every_divergence_translates_beside_every_kind_of_objective() {
    let pairs = pairs().into_iter().filter(|program| {
        matches!(program, Program::Pair { dtype: Dtype::F32, teacher: Dtype::F32, width: Width::Vec4, .. })
    });
    for program in pairs {
        for divergence in divergences() {
            let name = format!("{}-{}", file_name(program), divergence.name());
            for (of, objective) in [("alone", None), ("sum", Some("thresholded:inner=nll,lo=0.1 + deft"))] {
                let text = match objective {
                    None => program.assemble_pair(&Unjudged, &divergence),
                    Some(spec) => program.assemble_pair(&Composite::parse(spec).unwrap(), &divergence),
                };
                check(&format!("{name}-{of}"), &text);
            }
        }
    }
}

/// Not to HLSL, which has no cooperative matrices.
#[test]
fn cooperative_products_translate_to_metal_and_vulkan() {
    for matrices in Matrices::ALL {
        for product in [Product::Logits, Product::Hidden, Product::Weight] {
            for dtype in Dtype::ALL {
                let program = Program::Product { product, dtype, tiles: Tiles::Cooperative(matrices) };
                let module = module(&program.assemble(&Nll)).unwrap_or_else(|e| panic!("{program:?}: {e}"));
                write_msl(&module).unwrap_or_else(|e| panic!("{program:?}: {e}"));
                write_spirv(&module).unwrap_or_else(|e| panic!("{program:?}: {e}"));
                assert!(write_hlsl(&module).unwrap_err().contains("COOPERATIVE_MATRIX"));
            }
        }
    }
}

#[test]
fn every_objective_translates_in_every_evaluate() {
    for program in
        programs().into_iter().filter(|p| matches!(p, Program::Evaluate { map: Map::None, guide: None, .. }))
    {
        for objective in objectives() {
            let spec = objective.to_string().replace([':', ',', '=', '+', ' '], "-");
            check(&format!("{}-{spec}", file_name(program)), &program.assemble(&objective));
        }
    }
}

#[test]
fn gates_nest_and_share_their_text() {
    let gate = |inner| Thresholded::new(inner, 0.1, 0.9).unwrap();
    let twice = Thresholded::new(gate(Nll), 0.2, 1.0).unwrap();
    let program = Program::Evaluate {
        dtype: Dtype::F32,
        width: Width::Vec4,
        store: Store::OutOfPlace,
        reduce: Reduce::Tree,
        map: Map::None,
        guide: None,
    };
    check("gates", &program.assemble(&twice));
    assert_eq!(tokenloss_shaders::parameters(&twice).unwrap()[..4], [0.2, 1.0, 0.1, 0.9]);

    fn nested(depth: usize, inner: &dyn ShaderObjective) -> usize {
        match depth {
            0 => tokenloss_shaders::parameters(inner).map_or_else(|e| e.parameters, |_| 0),
            _ => nested(depth - 1, &gate_of(inner)),
        }
    }
    assert_eq!([nested(12, &Nll), nested(13, &Nll)], [0, 26]);
    let error = tokenloss_shaders::TooManyParameters { parameters: 26 };
    assert_eq!(error.to_string(), "objective: 26 parameters with its terms and gates, at most 24 fit");
}

#[test]
fn parameters_follow_each_other_term_by_term() {
    let spec = "thresholded:inner=power,alpha=0.5,lo=0.25,hi=0.75 + target_l2:lambda=2,gamma=3 + idft:beta=4,lambda=1";
    let sum = Composite::parse(spec).unwrap();
    let values = tokenloss_shaders::parameters(&sum).unwrap();
    assert_eq!(values[..8], [0.25, 0.75, 0.5, 2.0, 3.0, 4.0, 1.0, 0.0]);
    let text = Program::Judge.judge(&sum);
    for call in [
        "thresholded(summary.prob, parameter(0u), parameter(1u))",
        "power(summary.prob, parameter(2u))",
        "target_l2(summary, parameter(3u), parameter(4u))",
        "idft(summary, parameter(5u), parameter(6u))",
    ] {
        assert!(text.contains(call), "{call} is not in {text}");
    }
}

/// Sums over all logits are taken where somebody looks at them, and only there.
#[test]
fn a_token_objective_takes_no_moments() {
    for (spec, moments) in
        [("nll", false), ("nll + z_loss + entropy", false), ("nll + logit_l2", true), ("deft", true)]
    {
        let objective = Composite::parse(spec).unwrap();
        let evaluate = Program::Evaluate {
            dtype: Dtype::F32,
            width: Width::Word,
            store: Store::None,
            reduce: Reduce::Tree,
            map: Map::None,
            guide: None,
        };
        for program in [evaluate, Program::Part { width: Width::Word, reduce: Reduce::Tree, map: Map::None }]
        {
            let text = program.assemble(&objective);
            assert!(text.contains(&format!("const HAS_MOMENTS = {moments};")), "{spec}: {program:?}");
        }
        let summarise = Program::Summarise {
            dtype: Dtype::F32,
            width: Width::Word,
            reduce: Reduce::Tree,
            map: Map::None,
        };
        assert!(summarise.assemble(&objective).contains("const HAS_MOMENTS = true;"));
    }
}

fn gate_of<O: ShaderObjective>(inner: O) -> Thresholded<O> {
    Thresholded::new(inner, 0.0, 1.0).unwrap()
}

#[test]
fn everything_listed_has_a_twin_of_its_name() {
    let objectives = tokenloss_shaders::TOKENS.iter().chain(tokenloss_shaders::ROWS);
    for (name, wgsl) in objectives.chain(tokenloss_shaders::DIVERGENCES).chain(tokenloss_shaders::LABELS) {
        assert!(wgsl.contains(&format!("fn {name}(")), "{name}.wgsl declares no function of that name");
    }
}
