//! The page at `/`: what `/state` says, for people. One document that has its style and its script in it, and asks nobody
//! but us.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Response, StatusCode};
use sha2::{Digest, Sha256};

/// The document, with a place for the style and one for the script.
const DOCUMENT: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
/// One module, in the order in which its parts need one another.
const SCRIPT: &str = concat!(
    include_str!("page/words.js"),
    include_str!("page/elements.js"),
    include_str!("page/problems.js"),
    include_str!("page/chart.js"),
    include_str!("page/retry.js"),
    include_str!("page/proxy.js"),
    include_str!("page/tables.js"),
    include_str!("page/config.js"),
    include_str!("page/page.js"),
);

/// Spaces that mean nothing there.
const STYLE_SPACES: &[(&str, &str)] = &[(": ", ":"), (", ", ","), (" {", "{"), ("{ ", "{"), ("; ", ";")];
const SCRIPT_SPACES: &[(&str, &str)] = &[(" => ", "=>")];

/// The page.
pub(super) fn answer() -> Response<Full<Bytes>> {
    let (page, policy) = page();
    let response = Response::builder()
        .status(StatusCode::OK)
        .header(CONTENT_TYPE, "text/html; charset=utf-8")
        .header(CONTENT_SECURITY_POLICY, policy)
        .header(CACHE_CONTROL, "no-store")
        .header(REFERRER_POLICY, "no-referrer")
        .header(X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(X_FRAME_OPTIONS, "DENY");
    response.body(Full::new(page.into())).expect("the headers are letters, digits and punctuation")
}

/// The page, and what a browser may do for it: run this very script, apply this very style, ask us. What is inserted later
/// can be text only.
fn page() -> (String, String) {
    let (style, script) = (lean(STYLE, STYLE_SPACES), lean(SCRIPT, SCRIPT_SPACES));
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        digest(&script),
        digest(&style)
    );
    (lean(DOCUMENT, &[]).replace("{style}", &style).replace("{script}", &script), policy)
}

/// The text without what is there for its readers only: comments, indentation, and these `spaces`.
fn lean(text: &str, spaces: &[(&str, &str)]) -> String {
    let is_needed = |line: &&str| !line.is_empty() && !line.starts_with("//") && !line.starts_with("/**");
    let lines = text.lines().map(str::trim).filter(is_needed).collect::<Vec<_>>().join("\n");
    spaces.iter().fold(lines, |lines, (spaced, close)| lines.replace(spaced, close))
}

/// By this a policy names a script or a style.
fn digest(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands between the two tags.
    fn between<'a>(page: &'a str, begin: &str, end: &str) -> &'a str {
        let (_, rest) = page.split_once(begin).expect("it begins");
        rest.split_once(end).expect("it ends").0
    }

    #[test]
    fn the_policy_names_what_the_page_has_and_nothing_else() {
        let (page, policy) = page();
        let script = digest(between(&page, "<script type=\"module\">", "</script>"));
        let style = digest(between(&page, "<style>", "</style>"));
        assert!(policy.contains(&format!("script-src {script}; style-src {style};")), "{policy}");
        assert_eq!(page.matches("<script").count() + page.matches("<style").count(), 2, "{page}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }

    #[test]
    fn the_page_names_no_other_host_and_is_small() {
        let (page, _) = page();
        let others = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!others.contains("//"), "it names another host, or has kept a comment");
        assert!(page.len() < 40 * 1024, "{} bytes", page.len());
    }

    #[test]
    fn nothing_is_ever_read_as_markup_or_as_a_program() {
        let script = lean(SCRIPT, SCRIPT_SPACES);
        for way in ["HTML", "insertAdjacent", "document.write", "eval", "Function(", "srcdoc", "import"] {
            assert!(!script.contains(way), "{way}");
        }
    }
}
