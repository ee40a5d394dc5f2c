//! The picture: accuracy against wrong labels, one panel for each capability.

use super::report::{Report, percent};
use crate::draw::{self, Anchor, GREY, INK, Panel, text};
use anyhow::Result;

const PANEL: i32 = 360;
const GAP: i32 = 50;
const LEFT: i32 = 100;

/// Draws it.
pub(super) fn picture(report: &Report) -> Result<String> {
    let panels = report.bases.len() as i32;
    let width = (LEFT + panels * (PANEL + GAP)).max(900) as u32;
    draw::svg((width, 640), |area| {
        text(area, &title(report), (30, 36), 25, INK, Anchor::Start)?;
        let seeds = report.bases.first().map_or(0, |base| base.accuracy.seeds.len());
        let over = match seeds {
            1 => "one seed".to_owned(),
            seeds => format!("mean and sample standard deviation over {seeds} seeds"),
        };
        let subtitle = format!("clean test accuracy after fine-tuning; {over}; each panel has its own scale");
        text(area, &subtitle, (30, 66), 18, GREY, Anchor::Start)?;
        let names: Vec<&str> = report.objectives.iter().map(String::as_str).collect();
        draw::legend(area, &names, (30, 100))?;
        for capability in 0..report.bases.len() {
            panel(area, report, capability)?;
        }
        Ok(())
    })
}

/// What is seen where most labels are wrong.
fn title(report: &Report) -> String {
    let most = report.noise.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    let Some((n, noise)) = most else { return "No labels".to_owned() };
    let best = |c: usize| {
        let group = report.group(c, n).iter().filter(|cell| cell.best);
        group.map(|cell| short(&cell.objective)).collect::<Vec<_>>().join(" and ")
    };
    let bases = report.bases.iter().enumerate();
    let winners: Vec<_> = bases.map(|(c, base)| format!("{} ({})", best(c), base.capability)).collect();
    format!("Best at {} wrong labels: {}", percent(*noise), winners.join(", "))
}

/// A spec in the fewest words.
fn short(spec: &str) -> String {
    spec.replace("thresholded:inner=nll,lo=", "nll above p = ").replace("power:alpha=", "power ")
}

fn panel(area: &draw::Area<'_>, report: &Report, capability: usize) -> Result<()> {
    let base = &report.bases[capability];
    let cells = (0..report.noise.len()).flat_map(|n| report.group(capability, n));
    let ends = cells.flat_map(|cell| {
        let sd = cell.accuracy.sd.unwrap_or(0.0);
        [cell.accuracy.mean - sd, cell.accuracy.mean + sd]
    });
    let (low, high) = ends
        .chain([base.accuracy.mean])
        .fold((1.0f64, 0.0f64), |(low, high), x| (low.min(x.max(0.0)), high.max(x.min(1.0))));
    let room = 0.06 * (high - low).max(0.02);
    let y = (100.0 * (low - room).max(-0.01), 100.0 * (high + room));
    let most = report.noise.iter().copied().fold(0.0, f64::max).max(1e-3);
    let left = LEFT + capability as i32 * (PANEL + GAP);
    let panel = Panel {
        frame: [left, 190, left + PANEL - 20, 560],
        x: (-0.08 * 100.0 * most, 1.08 * 100.0 * most),
        y,
    };
    let centre = (panel.frame[0] + panel.frame[2]) / 2;
    text(area, &format!("{} model", base.capability), (centre, 144), 22, INK, Anchor::Middle)?;
    let p = format!("mean p of the best token before: {:.3}", base.mean_p.mean);
    text(area, &p, (centre, 168), 17, GREY, Anchor::Middle)?;
    let x_ticks: Vec<_> = report.noise.iter().map(|&noise| (100.0 * noise, percent(noise))).collect();
    let y_ticks = draw::ticks(y.0, y.1, 5, "");
    let y_name = if capability == 0 { "clean test accuracy, %" } else { "" };
    panel.axes(area, &x_ticks, &y_ticks, "wrong labels", y_name)?;
    panel.level(area, 100.0 * base.accuracy.mean, "before")?;
    let count = report.objectives.len();
    for series in (0..count).rev() {
        // Side by side, so that error bars do not hide each other.
        let beside = (series as f64 - 0.5 * (count as f64 - 1.0)) * 0.018 * 100.0 * most;
        let cells: Vec<_> = (0..report.noise.len()).map(|n| &report.group(capability, n)[series]).collect();
        let mut points = Vec::new();
        for cell in cells {
            let (x, mean) = (100.0 * cell.noise + beside, 100.0 * cell.accuracy.mean);
            if let Some(sd) = cell.accuracy.sd {
                panel.error_bar(area, series, x, mean - 100.0 * sd, mean + 100.0 * sd)?;
            }
            points.push((x, mean));
        }
        panel.line(area, series, &points, true)?;
    }
    Ok(())
}
