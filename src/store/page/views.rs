//! The pages themselves.

use std::sync::Arc;

use http::StatusCode;

use super::frame::{begin, count, end, pager, slice};
use super::html::Html;
use super::query::Query;
use super::verdict::Verdict;
use crate::signature::openpgp::KeyInfo;
use crate::store::Inner;
use crate::store::check::Said;
use crate::store::disk::{Kept, Seen, Walk};
use crate::store::file::readable_time;
use crate::store::keys::Keys;
use crate::store::paths::is_cosign_key;

/// Rows of the lists.
const KEYS: usize = 200;
const REPOSITORIES: usize = 50;
const IMAGES: usize = 20;
/// Signatures shown of an image among others; all of them where it is alone.
const SIGNATURES: usize = 8;

/// Keys and repositories.
pub(super) fn overview(walk: &Walk, keys: &Keys, certificates: &[KeyInfo], query: &Query, read_only: bool) -> String {
    let signatures: usize = walk.seen.iter().map(|seen| seen.signatures).sum();
    let lead = format!(
        "{} of {}{}",
        count(signatures, "signature", "signatures"),
        count(walk.seen.len(), "image", "images"),
        if read_only { "; this store takes no uploads" } else { "" }
    );
    let mut html = begin("Signature store", lead);
    write_keys(&mut html, keys, certificates);
    let repositories = repositories(walk, &query.search);
    html.raw("<section id=\"repositories\"><h2>Repositories</h2><form action=\"/\" method=\"get\">")
        .raw("<input type=\"search\" name=\"q\" aria-label=\"Part of a repository's path\" placeholder=\"Part of a path\" value=\"")
        .text(&query.search)
        .raw("\"><button>Search</button></form>");
    if repositories.is_empty() {
        html.raw("<p class=\"soft\">None.</p>");
    } else {
        html.raw("<div class=\"wide\"><table><thead><tr><th>Repository</th><th class=\"number\">Images</th>")
            .raw("<th class=\"number\">Signatures</th></tr></thead><tbody>");
        for repository in slice(&repositories, query.page, REPOSITORIES) {
            html.raw("<tr><td class=\"line\"><a href=\"").text(Query::address(repository.path, None)).raw("\">");
            html.text(repository.path).element("</a></td><td class=\"number\">", repository.images, "</td>");
            html.element("<td class=\"number\">", repository.signatures, "</td></tr>");
        }
        html.raw("</tbody></table></div>");
        pager(&mut html, query, repositories.len(), REPOSITORIES);
    }
    if walk.more {
        html.raw("<p class=\"soft\">There is more in the folder than is looked through.</p>");
    }
    html.raw("</section>");
    end(html)
}

struct Repository<'a> {
    path: &'a str,
    images: usize,
    signatures: usize,
}

/// The walk is sorted by path, so equal ones are neighbours.
fn repositories<'a>(walk: &'a Walk, search: &str) -> Vec<Repository<'a>> {
    let mut found: Vec<Repository<'a>> = Vec::new();
    for seen in walk.seen.iter().filter(|seen| seen.place.path().contains(search)) {
        match found.last_mut().filter(|last| last.path == seen.place.path()) {
            Some(last) => {
                last.images += 1;
                last.signatures += seen.signatures;
            }
            None => found.push(Repository { path: seen.place.path(), images: 1, signatures: seen.signatures }),
        }
    }
    found
}

fn write_keys(html: &mut Html, keys: &Keys, certificates: &[KeyInfo]) {
    html.raw("<section id=\"keys\"><h2>Public keys</h2>");
    if keys.files.is_empty() {
        html.raw("<p class=\"soft\">None.</p></section>");
        return;
    }
    html.raw("<div class=\"wide\"><table><thead><tr><th>File</th><th>Holder</th><th>Fingerprint</th><th>Expires</th>")
        .raw("<th>State</th></tr></thead><tbody>");
    for certificate in certificates.iter().take(KEYS) {
        write_key(html, certificate);
    }
    let others = keys.files.keys().filter(|name| !certificates.iter().any(|known| known.file == **name));
    for name in others.take(KEYS) {
        key_link(html.raw("<tr><td>"), name);
        let kind = if is_cosign_key(name) { "key for cosign" } else { "no key in it" };
        html.element("</td><td class=\"soft\" colspan=\"4\">", kind, "</td></tr>");
    }
    html.raw("</tbody></table></div>");
    if keys.files.len() > KEYS || certificates.len() > KEYS {
        html.raw("<p class=\"soft\">There are more than are shown.</p>");
    }
    html.raw("</section>");
}

fn write_key(html: &mut Html, certificate: &KeyInfo) {
    key_link(html.raw("<tr><td>"), &certificate.file);
    html.raw("</td><td>");
    for (at, user_id) in certificate.user_ids.iter().take(5).enumerate() {
        html.raw(if at == 0 { "" } else { "<br>" }).text(user_id);
    }
    html.element(
        "</td><td class=\"line\"><code>",
        grouped(&certificate.fingerprint),
        "</code></td><td class=\"line\">",
    );
    html.text(certificate.expires.map_or_else(|| "never".to_owned(), readable_time)).raw("</td><td>");
    match &certificate.unusable {
        None => html.raw("<span class=\"tag good\">in use</span>"),
        Some(why) => html.element("<span class=\"tag bad\">not usable</span> <span class=\"soft\">", why, "</span>"),
    };
    html.raw("</td></tr>");
}

fn key_link(html: &mut Html, name: &str) {
    html.raw("<a href=\"/keys/").text(name).raw("\">").text(name).raw("</a>");
}

/// A fingerprint in groups of four, as people compare it.
fn grouped(fingerprint: &str) -> String {
    let digits: Vec<char> = fingerprint.chars().collect();
    digits.chunks(4).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join(" ")
}

/// The images of a repository and their signatures.
pub(super) fn repository(
    inner: &Inner,
    walk: &Walk,
    keys: &Keys,
    certificates: &[KeyInfo],
    path: &str,
    query: &Query,
) -> (StatusCode, String) {
    let wanted = |seen: &&Seen| {
        seen.place.path() == path && query.digest.as_ref().is_none_or(|digest| digest == seen.place.digest())
    };
    let images: Vec<&Seen> = walk.seen.iter().filter(wanted).collect();
    let mut html = begin(path, format_args!("Repository {path}"));
    html.raw("<section id=\"images\">");
    if images.is_empty() {
        html.raw("<h2>Images</h2><p class=\"soft\">No signatures.</p></section>");
        return (StatusCode::NOT_FOUND, end(html));
    }
    html.element("<h2>", count(images.len(), "image", "images"), "</h2>");
    for seen in slice(&images, query.page, IMAGES) {
        let listing = match inner.signatures.listing(&seen.place) {
            Ok(listing) => listing,
            Err(error) => {
                tracing::warn!("the signatures of an image cannot be shown: {error}");
                html.element("<h3><code>", seen.place.digest(), "</code></h3>");
                html.raw("<p><span class=\"tag bad\">not readable</span> The store's log says why.</p>");
                continue;
            }
        };
        let kept = &listing.kept;
        let shown = if query.digest.is_some() { kept.len() } else { SIGNATURES };
        write_image(&mut html, inner, keys, certificates, seen, kept.get(..shown.min(kept.len())).unwrap_or_default());
        if kept.len() > shown {
            html.raw("<p><a href=\"").text(Query::address(path, Some(seen.place.digest())));
            html.element("\">All ", format_args!("{} signatures", kept.len()), "</a></p>");
        }
        if !listing.left_out.is_empty() {
            let numbers: Vec<String> = listing.left_out.iter().map(|number| format!("signature-{number}")).collect();
            html.element("<p><span class=\"tag bad\">not readable</span> ", numbers.join(", "), "</p>");
        }
    }
    pager(&mut html, query, images.len(), IMAGES);
    html.raw("</section>");
    (StatusCode::OK, end(html))
}

fn write_image(html: &mut Html, inner: &Inner, keys: &Keys, certificates: &[KeyInfo], seen: &Seen, kept: &[Kept]) {
    html.element("<h3><code>", seen.place.digest(), "</code></h3><div class=\"wide\"><table><thead><tr>");
    html.raw("<th>Signature</th><th>Made by</th><th>For</th><th>Made</th></tr></thead><tbody>");
    for kept in kept {
        let verdict = inner.verdicts.of(&seen.place, kept, keys, certificates);
        html.raw("<tr><td class=\"line\"><a href=\"")
            .text(format_args!("/sigstore/{}/signature-{}", seen.place, kept.number));
        html.element("\">signature-", kept.number, "</a>");
        html.element("<br><code class=\"soft\">", &kept.name, "</code></td>");
        write_verdict(html, &verdict);
        html.raw("</tr>");
    }
    html.raw("</tbody></table></div>");
}

fn write_verdict(html: &mut Html, verdict: &Arc<Verdict>) {
    html.raw("<td>");
    let said = match verdict.as_ref() {
        Verdict::Good { said, holder, file } => {
            html.raw("<span class=\"tag good\">verified</span> ").text(holder).raw("<br>");
            key_link(html, file);
            Some(said)
        }
        Verdict::Unknown { said } => {
            html.raw("<span class=\"tag\">no key here</span> ");
            write_issuer(html, said);
            Some(said)
        }
        Verdict::Bad { said, why } => {
            html.element("<span class=\"tag bad\">not valid</span> ", why, "");
            said.as_ref()
        }
    };
    html.raw("</td><td>");
    if let Some(said) = said {
        html.element("<code>", &said.reference, "</code>");
        if let Some(creator) = &said.creator {
            html.element("<br><span class=\"soft\">", creator, "</span>");
        }
    }
    html.raw("</td><td class=\"line\">")
        .text(said.and_then(|said| said.created).map(readable_time).unwrap_or_default())
        .raw("</td>");
}

fn write_issuer(html: &mut Html, said: &Said) {
    match said.issuers.first() {
        Some(issuer) => html.element("names <code>", grouped(issuer), "</code>"),
        None => html.raw("<span class=\"soft\">names no key</span>"),
    };
}
