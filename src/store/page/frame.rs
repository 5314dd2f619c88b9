//! What every page has around it.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::html::Html;
use super::query::Query;

const STYLE: &str = include_str!("style.css");

/// Content Security Policy Level 3: the style sheet by its hash, and nothing else.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = BASE64_STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
});

pub(super) fn policy() -> &'static str {
    &POLICY
}

pub(super) fn begin(title: &str, lead: impl std::fmt::Display) -> Html {
    let mut html = Html::default();
    html.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">")
        .raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")
        .element("<title>", title, "</title>")
        .raw("<style>")
        .raw(STYLE)
        .raw("</style></head><body><header><h1><a href=\"/\">Signature store</a></h1>")
        .element("<p>", lead, "</p>")
        .raw("</header><main>");
    html
}

pub(super) fn end(mut html: Html) -> String {
    html.raw("</main><footer>podseal ").text(env!("CARGO_PKG_VERSION")).raw(
        ". Verdicts on this page are by the keys of this store as of now; a cluster decides by its own policies.\
         </footer></body></html>\n",
    );
    html.finish()
}

/// Links to the pages before and after, of as many entries as there are.
pub(super) fn pager(html: &mut Html, query: &Query, entries: usize, per_page: usize) {
    let pages = entries.div_ceil(per_page).max(1);
    if pages == 1 {
        return;
    }
    html.raw("<nav>");
    if query.page > 1 {
        html.raw("<a rel=\"prev\" href=\"").text(query.at((query.page - 1).min(pages))).raw("\">← Previous</a>");
    }
    html.element("<span class=\"soft\">Page ", format_args!("{} of {pages}", query.page), "</span>");
    if query.page < pages {
        html.raw("<a rel=\"next\" href=\"").text(query.at(query.page + 1)).raw("\">Next →</a>");
    }
    html.raw("</nav>");
}

/// The entries of one page of a list.
pub(super) fn slice<T>(entries: &[T], page: usize, per_page: usize) -> &[T] {
    let start = (page - 1).saturating_mul(per_page).min(entries.len());
    let end = start.saturating_add(per_page).min(entries.len());
    entries.get(start..end).unwrap_or_default()
}

/// `1 image`, `2 images`.
pub(super) fn count(number: usize, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}
