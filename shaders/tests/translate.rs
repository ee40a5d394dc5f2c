//! Every assembled shader is valid WGSL and translates to SPIR-V, MSL and HLSL, so that Metal and DX12 are checked
//! without the hardware. With TOKENLOSS_SPIRV_OUT set, the SPIR-V is written to that folder for spirv-val.

use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Module, ShaderStage, back, front::wgsl};
use tokenloss_core::{AnyToken, Dtype, Nll, Objective, Thresholded};
use tokenloss_shaders::{Matrices, Product, Program, Reduce, ShaderObjective, Store, Tiles, Width};

fn programs() -> Vec<Program> {
    let mut all = vec![Program::Totals, Program::Copy, Program::SumBias, Program::Judge, Program::Compact];
    for width in [Width::Word, Width::Vec4] {
        for reduce in [Reduce::Tree, Reduce::Subgroup] {
            all.push(Program::Part { width, reduce });
        }
    }
    for dtype in Dtype::ALL {
        all.push(Program::StoreHidden { dtype });
        for product in [Product::Logits, Product::Hidden, Product::Weight] {
            all.push(Program::Product { product, dtype, tiles: Tiles::Registers });
        }
    }
    for dtype in Dtype::ALL {
        for width in [Width::Word, Width::Vec4] {
            for reduce in [Reduce::Tree, Reduce::Subgroup] {
                all.push(Program::Summarise { dtype, width, reduce });
                for store in [Store::None, Store::InPlace, Store::OutOfPlace] {
                    all.push(Program::Evaluate { dtype, width, store, reduce });
                }
            }
            for store in [Store::InPlace, Store::OutOfPlace] {
                all.push(Program::PushBack { dtype, width, store });
            }
        }
    }
    all
}

/// Every listed objective, plain and gated.
fn objectives() -> Vec<Objective> {
    let mut all = Vec::new();
    for name in AnyToken::NAMES {
        let spec = format!("thresholded:inner={name},lo=0.1");
        all.push(Objective::parse(name).unwrap());
        all.push(Objective::parse(&spec).unwrap());
    }
    all
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

#[test]
fn every_program_translates() {
    for program in programs() {
        check(&file_name(program), &program.assemble(&Nll));
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
    for program in programs().into_iter().filter(|p| matches!(p, Program::Evaluate { .. })) {
        for objective in objectives() {
            let spec = objective.to_string().replace([':', ',', '='], "-");
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
    };
    check("gates", &program.assemble(&twice));
    assert_eq!(tokenloss_shaders::parameters(&twice).unwrap()[..4], [0.2, 1.0, 0.1, 0.9]);

    let deep = gate_of(gate_of(gate_of(gate_of(gate_of(Nll)))));
    let error = tokenloss_shaders::parameters(&deep).unwrap_err();
    assert_eq!(error.to_string(), "objective: 10 parameters with its gates, at most 8 fit");
}

fn gate_of<O: ShaderObjective>(inner: O) -> Thresholded<O> {
    Thresholded::new(inner, 0.0, 1.0).unwrap()
}

#[test]
fn every_listed_objective_has_a_twin_of_its_name() {
    for (name, wgsl) in tokenloss_shaders::TOKENS {
        assert!(wgsl.contains(&format!("fn {name}(")), "{name}.wgsl declares no function of that name");
    }
}
