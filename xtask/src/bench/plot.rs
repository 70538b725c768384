//! One picture: what LLMux costs in multiples of nginx.

use std::fmt::Write as _;

use super::report::ratio;
use super::results::Results;
use super::scenario::SCENARIOS;

/// The subjects with bars, and the bars' colours. Others would leave no room for these.
const BARS: &[(&str, &str)] = &[("llmux-off", "#8fb8de"), ("llmux-on", "#1f5f99")];

const LEFT: f64 = 130.0;
const WIDTH: f64 = 720.0;
const BAR: f64 = 14.0;
const TOP: f64 = 60.0;

/// Draws bars for each scenario that has both figures.
pub(super) fn svg(results: &Results) -> String {
    let groups: Vec<(&str, Vec<(f64, &str)>)> = SCENARIOS
        .iter()
        .map(|scenario| {
            let bar = |(subject, colour): &(&str, &'static str)| {
                Some((ratio(results, scenario, subject)?, *colour))
            };
            (scenario.name, BARS.iter().filter_map(bar).collect::<Vec<_>>())
        })
        .filter(|(_, bars)| !bars.is_empty())
        .collect();
    let longest = groups.iter().flat_map(|(_, bars)| bars).map(|(ratio, _)| *ratio);
    let longest = longest.fold(1.5_f64, f64::max);
    let scale = (WIDTH - LEFT - 60.0) / longest;
    let step = BAR * BARS.len() as f64 + 12.0;
    let height = TOP + step * groups.len() as f64 + 20.0;

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"14\">CPU time in multiples of nginx's, of the same run</text>\n"
    );
    for (index, (subject, colour)) in BARS.iter().enumerate() {
        let x = 10.0 + 110.0 * index as f64;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"32\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"42\">{subject}</text>",
            x + 18.0
        );
    }
    for (index, (name, bars)) in groups.iter().enumerate() {
        let y = TOP + step * index as f64;
        let _ = writeln!(svg, "<text x=\"10\" y=\"{:.0}\">{name}</text>", y + BAR);
        for (bar, (ratio, colour)) in bars.iter().enumerate() {
            let y = y + BAR * bar as f64;
            let length = ratio * scale;
            let _ = writeln!(
                svg,
                "<rect x=\"{LEFT}\" y=\"{y:.0}\" width=\"{length:.1}\" height=\"{:.0}\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{:.0}\">{ratio:.2}</text>",
                BAR - 1.0,
                LEFT + length + 5.0,
                y + 11.0
            );
        }
    }
    let one = LEFT + scale;
    let _ = writeln!(
        svg,
        "<line x1=\"{one:.1}\" x2=\"{one:.1}\" y1=\"{}\" y2=\"{:.0}\" stroke=\"black\" stroke-dasharray=\"4 3\"/>\
         <text x=\"{:.1}\" y=\"{:.0}\">nginx</text>\n</svg>",
        TOP - 6.0,
        height - 18.0,
        one - 14.0,
        height - 5.0
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::svg;
    use crate::bench::results::Results;

    #[test]
    fn there_is_a_bar_for_each_figure_that_can_be_compared() {
        let mut results = Results::default();
        results.add("saturation", "nginx", "cpu_us_per_request", 10.0);
        results.add("saturation", "llmux-off", "cpu_us_per_request", 11.0);
        results.add("saturation", "llmux-on", "cpu_us_per_request", 12.5);
        results.add("body-20k", "llmux-on", "cpu_us_per_request", 12.5);
        let svg = svg(&results);
        assert!(svg.contains(">1.10</text>") && svg.contains(">1.25</text>"), "{svg}");
        assert!(!svg.contains("body-20k"));
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }
}
