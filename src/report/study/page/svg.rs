//! Drawing: scales, marks and fills. Horizontal places are per cents, so that a drawing takes the
//! width of the page without its text shrinking; shapes and patterns tell apart what colours do.

use std::fmt::Write;

use crate::study::sample::count;

/// Text for HTML and SVG.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A logarithmic scale from values to 0..100.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogScale {
    low: f64,
    high: f64,
}

impl LogScale {
    /// A scale that shows all of `values`, with some room; `None` without a positive one.
    pub(super) fn over(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (low, high) = values
            .filter(|value| value.is_finite() && *value > 0.0)
            .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        (high > 0.0).then(|| LogScale { low: low / 1.1, high: high * 1.1 })
    }

    /// Where a value lies.
    pub(super) fn at(&self, value: f64) -> f64 {
        let value = value.clamp(self.low, self.high);
        (value / self.low).ln() / (self.high / self.low).ln() * 100.0
    }

    /// Round values within, few enough to be labelled: 1, 2 and 5 of each decade, or decades alone.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        let steps: &[f64] = match decades {
            narrow if narrow < 0.7 => &[1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
            some if some < 2.5 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        // Nothing that is measured lies outside of these decades.
        (-9..=12)
            .flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)))
            .filter(|tick| (self.low..=self.high).contains(tick))
            .collect()
    }
}

/// How many looks there are before they repeat.
const LOOKS: usize = 12;
const COLOURS: [&str; LOOKS] = [
    "#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f",
    "#882255", "#332288", "#117733", "#aa4499",
];
const DASHES: [&str; LOOKS] = [
    "none",
    "7 3",
    "2 2",
    "10 3 2 3",
    "4 4",
    "12 4",
    "1 3",
    "6 2 2 2 2 2",
    "14 2",
    "3 6",
    "8 2 8 6",
    "1 6",
];

/// What one system looks like, on every drawing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look(pub(super) usize);

impl Look {
    pub(super) fn colour(self) -> &'static str {
        COLOURS[self.0 % LOOKS]
    }

    pub(super) fn dash(self) -> &'static str {
        DASHES[self.0 % LOOKS]
    }

    /// Its mark, around a point; `x` in per cent, `y` in pixels.
    pub(super) fn mark(self, x: f64, y: f64) -> String {
        let colour = self.colour();
        let shape = match self.0 % LOOKS {
            0 => "<path d='M0-5V5M-5 0H5' stroke-width='2.5'/>",
            1 => "<circle r='4.5'/>",
            2 => "<rect x='-4' y='-4' width='8' height='8'/>",
            3 => "<path d='M0-5.5L5 4H-5Z'/>",
            4 => "<path d='M0-5.5L5.5 0L0 5.5L-5.5 0Z'/>",
            5 => "<circle r='4' fill='#fff' stroke-width='2.5'/>",
            6 => "<rect x='-4' y='-4' width='8' height='8' fill='#fff' stroke-width='2.5'/>",
            7 => "<path d='M-4-4L4 4M-4 4L4-4' stroke-width='2.5'/>",
            8 => "<path d='M0 5.5L5-4H-5Z'/>",
            9 => "<path d='M0-5L4.5 4H-4.5Z' fill='#fff' stroke-width='2'/>",
            10 => "<path d='M0-5.5L5.5 0L0 5.5L-5.5 0Z' fill='#fff' stroke-width='2'/>",
            _ => "<path d='M-5 0H5M-3-4L3 4M-3 4L3-4' stroke-width='2'/>",
        };
        format!("<svg x='{x:.2}%' y='{y}'><g fill='{colour}' stroke='{colour}'>{shape}</g></svg>")
    }

    /// Its mark beside text.
    pub(super) fn swatch(self) -> String {
        format!("<svg width='14' height='14' aria-hidden='true'>{}</svg>", self.mark(50.0, 7.0))
    }
}

/// The fills of stacked bars, by number: defined once a page, by [`patterns`].
pub(super) fn fill(index: usize) -> String {
    format!("url(#p{})", index % PATTERNS.len())
}

/// A fill beside text.
pub(super) fn fill_swatch(index: usize) -> String {
    let fill = fill(index);
    format!(
        "<svg width='18' height='12' aria-hidden='true'><rect width='18' height='12' fill='{fill}' \
         stroke='#111'/></svg>"
    )
}

/// Ground and drawing of each pattern: each differs from its neighbours in both.
const PATTERNS: [(&str, &str); 14] = [
    ("#222222", ""),
    ("#e8e8e8", "<path d='M0 8L8 0' stroke='#111'/>"),
    ("#56b4e9", ""),
    ("#ffffff", "<path d='M0 4H8' stroke='#d55e00' stroke-width='3'/>"),
    ("#009e73", "<circle cx='4' cy='4' r='1.6' fill='#fff'/>"),
    ("#f0e442", "<path d='M0 0L8 8' stroke='#111'/>"),
    ("#cc79a7", "<path d='M4 0V8' stroke='#fff' stroke-width='2'/>"),
    ("#ffffff", "<path d='M0 8L8 0M0 0L8 8' stroke='#0072b2' stroke-width='1.5'/>"),
    ("#d55e00", "<circle cx='4' cy='4' r='2' fill='#111'/>"),
    ("#999999", ""),
    ("#ffffff", "<path d='M4 0V8' stroke='#117733' stroke-width='3'/>"),
    ("#332288", "<path d='M0 4H8' stroke='#fff' stroke-width='1.5'/>"),
    ("#e69f00", "<path d='M4 0V8M0 4H8' stroke='#111'/>"),
    ("#ffffff", "<circle cx='4' cy='4' r='2.4' fill='#882255'/>"),
];

/// The definitions that [`fill`] refers to.
pub(super) fn patterns() -> String {
    let mut text = String::from("<svg width='0' height='0' aria-hidden='true'><defs>");
    for (index, (ground, drawing)) in PATTERNS.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "<pattern id='p{index}' width='8' height='8' patternUnits='userSpaceOnUse'>\
             <rect width='8' height='8' fill='{ground}'/>{drawing}</pattern>"
        );
    }
    text + "</defs></svg>"
}

/// A bar of parts, each with its share of `whole` and the number of its fill.
pub(super) fn stack(parts: &[(f64, usize)], whole: f64, label: &str) -> String {
    let mut text = format!(
        "<svg class='bar' width='100%' height='18' role='img' aria-label='{}'>",
        escape(label).replace('\'', "&#39;")
    );
    let mut x = 0.0;
    for (part, index) in parts.iter().filter(|(part, _)| part / whole > 0.001) {
        let width = (part / whole * 100.0).max(0.0);
        let _ = write!(
            text,
            "<rect x='{x:.2}%' y='2' width='{width:.2}%' height='14' fill='{}' stroke='#111' \
             stroke-width='0.7'/>",
            fill(*index)
        );
        x += width;
    }
    text + "</svg>"
}

/// A line through points, both coordinates in 0..100, of which the second grows upwards. To be put
/// into [`plane`].
pub(super) fn line(points: &[(f64, f64)], look: Look) -> String {
    let points: Vec<String> =
        points.iter().map(|(x, y)| format!("{x:.2},{:.2}", 100.0 - y)).collect();
    format!(
        "<polyline points='{}' fill='none' stroke='{}' stroke-width='2' stroke-dasharray='{}' \
         vector-effect='non-scaling-stroke'/>",
        points.join(" "),
        look.colour(),
        look.dash()
    )
}

/// A drawing of `height` pixels whose lines live in a plane of 100 by 100 that is stretched, and
/// whose text and marks do not.
pub(super) fn plane(height: u32, lines: &str, unstretched: &str, label: &str) -> String {
    format!(
        "<svg class='plot' width='calc(100% - 4rem)' height='{height}' role='img' aria-label='{}'>\
         <svg viewBox='0 0 100 100' preserveAspectRatio='none' width='100%' height='100%'>{lines}</svg>\
         {unstretched}</svg>",
        escape(label).replace('\'', "&#39;")
    )
}

/// Evenly spread places for `number` things, in per cent.
pub(super) fn spread(number: usize) -> impl Iterator<Item = f64> {
    let width = 100.0 / count(number.max(1) as u64);
    (0..number).map(move |index| (count(index as u64) + 0.5) * width)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn scales_are_monotonous_and_have_ticks() {
        for values in [[0.9, 1.1], [0.5, 12.0], [0.1, 90_000.0]] {
            let scale = LogScale::over(values.into_iter()).expect("is positive");
            assert!(scale.at(values[0]) > 0.0 && scale.at(values[1]) < 100.0);
            assert!(scale.at(values[0]) < scale.at(values[1]));
            let ticks = scale.ticks();
            assert!((1..=9).contains(&ticks.len()), "{values:?}: {ticks:?}");
        }
        assert!(LogScale::over([0.0, f64::NAN].into_iter()).is_none());
        let point = LogScale::over([1.0].into_iter()).expect("is positive");
        assert!((point.at(1.0) - 50.0).abs() < 1e-9);
    }

    #[test]
    fn looks_differ_without_colour() {
        let bare = |look: Look| look.mark(0.0, 0.0).replace(look.colour(), "");
        let marks: HashSet<String> = (0..LOOKS).map(|look| bare(Look(look))).collect();
        let dashes: HashSet<&str> = (0..LOOKS).map(|look| Look(look).dash()).collect();
        assert_eq!((marks.len(), dashes.len()), (LOOKS, LOOKS));
    }

    #[test]
    fn fills_differ() {
        let all: HashSet<String> = PATTERNS.iter().map(|pattern| format!("{pattern:?}")).collect();
        assert_eq!(all.len(), PATTERNS.len());
        // The longest ladder has 10 steps: native, what stays, and what 9 steps took.
        let fills: HashSet<String> = (0..11).map(fill).collect();
        assert_eq!(fills.len(), 11);
    }

    #[test]
    fn nothing_in_a_text_is_markup() {
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
        assert!(stack(&[(1.0, 0)], 1.0, "it's").contains("it&#39;s"));
    }
}
