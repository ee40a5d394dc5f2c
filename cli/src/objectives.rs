//! `tokenloss objectives`: the list, and what each does to a token of probability p.

use crate::draw::{self, Anchor, GREY, INK, Panel, text};
use anyhow::Result;
use clap::Args;
use comfy_table::{Table, presets};
use std::path::PathBuf;
use tokenloss::theory::{leaning, peak, share_above, weight};
use tokenloss::{AnyToken, Listed, Objective, Parameter, Thresholded, TokenObjective};

/// Options of `tokenloss objectives`.
#[derive(Debug, Args)]
pub(crate) struct Objectives {
    /// Draw f and W of every objective over p; .png works, too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// An objective of the list with its default parameters.
struct Entry {
    name: &'static str,
    parameters: &'static [Parameter],
    objective: Objective,
    note: &'static str,
}

fn entries() -> Result<Vec<Entry>> {
    let token = |&name: &&'static str| {
        let objective = Objective::parse(name).map_err(|error| anyhow::anyhow!("{error}"))?;
        let parameters = AnyToken::parameters_of(name).unwrap_or(&[]);
        Ok(Entry { name, parameters, objective, note: "" })
    };
    let mut entries = AnyToken::NAMES.iter().map(token).collect::<Result<Vec<_>>>()?;
    let example = "thresholded:inner=nll,lo=0.2";
    entries.push(Entry {
        name: Thresholded::<AnyToken>::NAME,
        parameters: Thresholded::<AnyToken>::PARAMETERS,
        objective: Objective::parse(example).map_err(|error| anyhow::anyhow!("{error}"))?,
        note: "W of inner=nll, lo=0.2",
    });
    Ok(entries)
}

impl Objectives {
    /// Runs it.
    pub(crate) fn run(self) -> Result<()> {
        let entries = entries()?;
        if let Some(file) = &self.svg {
            draw::save(&picture(&entries)?, file)?;
            eprintln!("wrote {}", file.display());
        }
        if self.json {
            let list = entries.iter().map(|entry| {
                let parameters = entry.parameters.iter().map(|p| {
                    serde_json::json!({ "name": p.name, "default": p.default, "min": p.min, "max": p.max })
                });
                serde_json::json!({
                    "name": entry.name,
                    "parameters": parameters.collect::<Vec<_>>(),
                    "shown": entry.objective.to_string(),
                    "peak_p": peak(&entry.objective).p,
                    "peak_weight": peak(&entry.objective).weight,
                    "share_above_half": share_above(&entry.objective, 0.5),
                    "leaning": leaning(&entry.objective).to_string(),
                })
            });
            println!("{:#}", serde_json::Value::from_iter(list));
        } else {
            println!("{}", table(&entries));
            println!(
                "W(p) = -slope (1 - p) is the push on the target's logit, at the default parameters. An"
            );
            println!(
                "objective leans by its share of W above p = 1/2. Write name:parameter=value,... on the"
            );
            println!("command line; thresholded takes inner=NAME and its parameters, too.");
        }
        Ok(())
    }
}

fn table(entries: &[Entry]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "objective",
        "parameter",
        "default",
        "domain",
        "W peaks at p",
        "W there",
        "leaning",
        "",
    ]);
    for entry in entries {
        let Entry { name, parameters, objective, note } = entry;
        let column = |of: fn(&Parameter) -> String| parameters.iter().map(of).collect::<Vec<_>>().join("\n");
        let peak = peak(objective);
        table.add_row([
            (*name).to_owned(),
            column(|p| p.name.to_owned()),
            column(|p| p.default.to_string()),
            column(|p| format!("{} to {}", p.min, p.max)),
            format!("{:.3}", peak.p),
            format!("{:.3}", peak.weight),
            leaning(objective).to_string(),
            (*note).to_owned(),
        ]);
    }
    table
}

fn picture(entries: &[Entry]) -> Result<String> {
    draw::svg((1240, 640), |area| {
        text(area, "What each objective asks of a token of probability p", (40, 34), 27, INK, Anchor::Start)?;
        let subtitle = "at its default parameters; thresholded as inner=nll, lo=0.2";
        text(area, subtitle, (40, 64), 18, GREY, Anchor::Start)?;
        let names: Vec<&str> = entries.iter().map(|entry| entry.name).collect();
        draw::legend(area, &names, (40, 98))?;
        let ends = draw::ticks(0.0, 1.0, 5, "");
        let curve = |panel: &Panel, series, of: &dyn Fn(f64) -> f64| {
            let points = (1..400).map(|i| f64::from(i) / 400.0).map(|p| (p, of(p)));
            // A line that leaves the panel is cut where it does.
            let mut pieces = vec![Vec::new()];
            for (p, y) in points {
                if y >= panel.y.0 && y <= panel.y.1 {
                    pieces.last_mut().into_iter().for_each(|piece: &mut Vec<_>| piece.push((p, y)));
                } else {
                    pieces.push(Vec::new());
                }
            }
            pieces.iter().filter(|p| p.len() > 1).try_for_each(|piece| panel.line(area, series, piece, false))
        };
        let marks = |panel: &Panel, series: usize, of: &dyn Fn(f64) -> f64| {
            let at = [0.0, 0.25, 0.5, 0.75].map(|x| x + 0.03 + 0.027 * series as f64);
            let inside = at.into_iter().filter(|&p| of(p) >= panel.y.0 && of(p) <= panel.y.1);
            inside.map(|p| panel.at(p, of(p))).try_for_each(|at| draw::marker(area, series, at))
        };
        let panels = [
            (Panel { frame: [110, 140, 590, 560], x: (0.0, 1.0), y: (-4.0, 4.0) }, "f(p), the loss"),
            (
                Panel { frame: [730, 140, 1210, 560], x: (0.0, 1.0), y: (0.0, 1.2) },
                "W(p), the push on the target",
            ),
        ];
        for (which, (panel, name)) in panels.iter().enumerate() {
            let ticks = draw::ticks(panel.y.0, panel.y.1, 6, "");
            panel.axes(area, &ends, &ticks, "p", name)?;
            for (series, entry) in entries.iter().enumerate() {
                let loss = |p: f64| entry.objective.of_log_p(p.ln()).loss;
                let push = |p: f64| weight(&entry.objective, p);
                let of: &dyn Fn(f64) -> f64 = if which == 0 { &loss } else { &push };
                curve(panel, series, of)?;
                marks(panel, series, of)?;
            }
        }
        Ok(())
    })
}
