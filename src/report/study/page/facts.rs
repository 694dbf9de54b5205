//! How it was measured, and on what.

use std::fmt::Write;

use super::super::digest::Digest;
use super::super::facts;
use super::scrolling;
use super::svg::escape;

pub(super) fn method(digest: &Digest) -> String {
    let mut text: String =
        facts::method(digest).iter().map(|line| format!("<p>{}</p>\n", escape(line))).collect();
    let mut body = String::new();
    for found in &digest.systems {
        let _ = writeln!(
            body,
            "<tr><td>{}</td><td class=\"text\"><code>{}</code></td><td class=\"text\">{}</td></tr>",
            escape(&found.system.title),
            escape(&found.system.arguments.join(" ")),
            escape(&facts::in_force(&found.system))
        );
    }
    text += &scrolling(
        "<th class=\"text\">system</th><th class=\"text\">arguments</th><th class=\"text\">in force</th>",
        &body,
    );
    text
}

pub(super) fn environment(digest: &Digest) -> String {
    let mut text = String::from("<dl>\n");
    for (name, value) in facts::environment(&digest.environment) {
        let _ = writeln!(text, "<dt>{name}</dt><dd>{}</dd>", escape(&value));
    }
    text + "</dl>\n"
}
