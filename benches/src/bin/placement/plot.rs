//! Cost against nodes, drawn: both axes logarithmic.

use std::fmt::Write as _;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
const MARGIN: f64 = 60.0;

/// A plot of (nodes, mean ns, mean ns of a scan).
pub(crate) fn svg(points: &[(usize, f64, f64)]) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a place on paper")]
    let nodes = |index: usize| points.get(index).map_or(1.0, |point| point.0 as f64).log10();
    let (left, right) = (nodes(0), nodes(points.len().saturating_sub(1)));
    let all = points.iter().flat_map(|(_, mean, scan)| [*mean, *scan]);
    let (low, high) = all.fold((f64::MAX, 1.0_f64), |(low, high), ns| (low.min(ns), high.max(ns)));
    let (low, high) = (low.log10().floor(), high.log10().ceil());
    let x = |at: f64| MARGIN + (at - left) / (right - left).max(1e-9) * (WIDTH - 2.0 * MARGIN);
    let y = |ns: f64| {
        HEIGHT - MARGIN - (ns.log10() - low) / (high - low).max(1e-9) * (HEIGHT - 2.0 * MARGIN)
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    // Writing to a String does not fail.
    let mut line = |text: String| out.write_str(&text).unwrap_or_default();
    let mut decade = low;
    while decade <= high {
        let at = y(10_f64.powf(decade));
        line(format!(
            "<line x1=\"{MARGIN}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"4\" y=\"{:.1}\">{} ns</text>\n",
            WIDTH - MARGIN,
            at + 4.0,
            10_f64.powf(decade)
        ));
        decade += 1.0;
    }
    for (index, (count, _, _)) in points.iter().enumerate() {
        line(format!(
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{count}</text>\n",
            x(nodes(index)),
            HEIGHT - MARGIN + 18.0
        ));
    }
    for (name, colour, pick) in [
        ("coracle", "#06c", (|point| point.1) as fn(&(usize, f64, f64)) -> f64),
        ("scan", "#c30", |point| point.2),
    ] {
        let path: Vec<String> = points
            .iter()
            .enumerate()
            .map(|(index, point)| format!("{:.1},{:.1}", x(nodes(index)), y(pick(point))))
            .collect();
        line(format!(
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>\n",
            path.join(" ")
        ));
        if let Some(last) = points.last() {
            line(format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>\n",
                WIDTH - MARGIN + 4.0,
                y(pick(last))
            ));
        }
    }
    line(format!(
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">nodes; mean time of one decision, basic</text>\n</svg>\n",
        WIDTH / 2.0,
        HEIGHT - 12.0
    ));
    out
}
