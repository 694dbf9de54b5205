//! The page's structure, without a browser.

use super::*;
use crate::report::study::fixture;

/// Elements that have no end.
const VOID: [&str; 4] = ["meta", "br", "!doctype", "img"];

/// Goes through the markup and fails on an element that is closed wrongly; gives all start tags.
fn elements(page: &str) -> Vec<&str> {
    let mut open: Vec<&str> = Vec::new();
    let mut starts = Vec::new();
    let body = page.split_once("<style>").expect("has a style").1;
    let (style, body) = body.split_once("</style>").expect("the style ends");
    assert!(!style.contains('<'));
    for tag in body.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap_or_else(|| panic!("<{tag} does not end"));
        if let Some(name) = tag.strip_prefix('/') {
            // `</head>` closes what lies before the style.
            if !["head", "html"].contains(&name) {
                assert_eq!(open.pop(), Some(name), "after {open:?}");
            }
            continue;
        }
        starts.push(tag);
        let name = tag.split([' ', '/']).next().unwrap_or("");
        if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
    starts
}

#[test]
fn every_element_ends_and_nothing_is_fetched() {
    let page = render(&fixture::digest());
    elements(&page);
    assert!(page.contains("name=\"viewport\" content=\"width=device-width"));
    for reference in ["http:", "https:", "//", "src=", "@import", "<script", "<link", "url(h"] {
        assert!(!page.contains(reference), "{reference}");
    }
}

#[test]
fn every_section_is_there_and_the_contents_lead_to_it() {
    let page = render(&fixture::digest());
    let sections = [
        "says",
        "ratios",
        "time",
        "requests",
        "scaling",
        "latency",
        "figures",
        "method",
        "environment",
    ];
    for section in sections {
        assert!(page.contains(&format!("<section id=\"{section}\">")), "{section}");
        assert!(page.contains(&format!("<a href=\"#{section}\">")), "{section}");
    }
    assert!(!page.contains("id=\"published\""), "nothing was published like it");
    let mut digest = fixture::digest();
    digest.cells[1].cell.published = Some("File-server-50th".into());
    assert!(render(&digest).contains("id=\"published\""));
}

#[test]
fn every_comparison_has_its_interval_and_every_table_its_box() {
    let digest = fixture::digest();
    let page = render(&digest);
    let count = |text: &str| page.matches(text).count();
    let comparisons: usize = digest.cells.iter().map(|cell| cell.comparisons().count()).sum();
    assert_eq!(count("<svg class='ratio'"), comparisons);
    assert_eq!(count("<rect class='aa'"), comparisons, "each lies over its band");
    assert_eq!(count("<table>"), count("<div class=\"scroll\"><table>"));
    // Two of the cells were traced on two systems, and three are on the ladder's ends.
    assert!(count("<svg class='bar'") >= 2 + 3);
    let plots = digest.cells.iter().filter(|cell| cell.comparisons().next().is_some()).count();
    assert_eq!(count("<svg class='plot'"), plots + 1, "latencies, and one family of threads");
}

#[test]
fn no_number_is_broken() {
    let page = render(&fixture::digest());
    for broken in ["NaN", "inf%", ">inf", "-0.00%", "Some(0", "Some(1", "None"] {
        assert!(!page.contains(broken), "{broken}");
    }
}

#[test]
fn what_a_study_calls_things_is_no_markup() {
    let page = render(&fixture::digest());
    assert!(page.contains("never &lt;run&gt; &amp; &quot;quoted&quot;"));
    assert!(!page.contains("<run>"));
}

#[test]
fn what_a_study_is_about_stands_under_its_name() {
    let mut digest = fixture::digest();
    assert!(!render(&digest).contains("class=\"about\""));
    digest.title = Some("Each <step>".into());
    assert!(render(&digest).contains("</h1>\n<p class=\"about\">Each &lt;step&gt;</p>"));
}

#[test]
fn a_reference_has_its_own_name_everywhere() {
    let mut digest = fixture::digest();
    digest.systems[0].system.title = "own mount".into();
    // What was said before the reference was renamed, and what daemons say themselves.
    (digest.headline, digest.warnings) = (Vec::new(), Vec::new());
    let page = render(&digest);
    let body = page.split_once("</style>").expect("has a style").1;
    assert!(body.contains("Against own mount") && body.contains("the own mount's rate"));
    let body = body.replace("--native", "");
    let left: Vec<&str> =
        body.match_indices("nativ").map(|(at, _)| &body[at - 30..at + 20]).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_makes_up_a_bar_has_a_fill_of_its_own_however_rare_it_is() {
    let mut digest = fixture::digest();
    let row = |digest: &mut Digest, cell: usize, requests: Vec<(String, f64)>| {
        let rows = &mut digest.cells[cell].results;
        let row = rows.iter_mut().find(|row| row.system == "base").expect("is there");
        if let super::super::cell::CellResult::Measured(figures) = &mut row.result {
            figures.requests_per_operation = requests.into_iter().collect();
        }
    };
    // Fourteen that are asked often, each a part of a bar; and one READ, which is one.
    row(&mut digest, 1, (0..14).map(|it| (format!("OP{it}"), 5.0)).collect());
    row(&mut digest, 0, vec![("READ".into(), 1.0)]);
    let page = render(&digest);
    let legend = page.split_once("id=\"requests\"").expect("is there").1;
    let legend = legend.split_once("</p>\n<figure>").expect("ends").0;
    assert!(legend.contains("READ") && legend.contains("others"), "{legend}");
}

#[test]
fn a_study_without_samples_is_still_a_page() {
    let mut results = fixture::results();
    results.samples.clear();
    let page = render(&Digest::new(&results));
    elements(&page);
    assert!(page.contains("Nothing was compared with native."));
    assert!(!page.contains("id=\"ratios\""));
}

#[test]
fn drawings_take_the_width_of_the_page() {
    let page = render(&fixture::digest());
    for tag in elements(&page) {
        if tag.starts_with("svg") && tag.contains(" role='img'") {
            assert!(tag.contains("width='100%'") || tag.contains("width='calc(100%"), "{tag}");
        }
    }
}
