//! Finds every path in a source file: in `use` trees, inline, in types, in visibilities and inside macros. What stands
//! in comments, strings and docs is none.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path as its parts: `super::x` in `crate::a::b` is `crate::a::x`. One that begins at a name in scope stays as it
/// is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) parts: Vec<String>,
    /// Whether it stands in a module called `tests`.
    pub(crate) in_tests: bool,
}

/// The paths of a file that is the module `module`, such as `["engine", "port"]`.
pub(crate) fn paths(module: &[String], source: &str) -> Vec<Path> {
    let mut found = Vec::new();
    walk(module, &trees(source), &mut found);
    found
}

/// Whether the keyword occurs in the code.
pub(crate) fn has_keyword(source: &str, keyword: &str) -> bool {
    fn search(trees: &[TokenTree], keyword: &str) -> bool {
        trees.iter().any(|tree| match tree {
            TokenTree::Ident(ident) => ident == keyword,
            TokenTree::Group(group) => search(&collect(group.stream()), keyword),
            TokenTree::Punct(_) | TokenTree::Literal(_) => false,
        })
    }
    search(&trees(source), keyword)
}

fn trees(source: &str) -> Vec<TokenTree> {
    collect(source.parse().unwrap_or_else(|error| panic!("not Rust: {error}\n{source}")))
}

fn collect(stream: TokenStream) -> Vec<TokenTree> {
    stream.into_iter().collect()
}

fn walk(module: &[String], trees: &[TokenTree], found: &mut Vec<Path>) {
    let mut at = 0;
    while let Some(tree) = trees.get(at) {
        match tree {
            TokenTree::Ident(ident) if ident == "mod" => {
                if let Some((name, body)) = inline_module(trees, at) {
                    let inner: Vec<_> = module.iter().cloned().chain([name]).collect();
                    walk(&inner, &body, found);
                    at += 2;
                }
            }
            TokenTree::Ident(ident) if !follows_separator(trees, at) && separator(trees, at + 1) => {
                let mut rest = Vec::new();
                at = tree_of(trees, at + 3, &mut vec![ident.to_string()], &mut rest) - 1;
                let in_tests = module.iter().any(|part| part == "tests");
                found.extend(rest.into_iter().map(|parts| Path { parts: resolve(module, parts), in_tests }));
            }
            TokenTree::Ident(ident) if renamed(trees, at) => {
                let in_tests = module.iter().any(|part| part == "tests");
                found.push(Path { parts: resolve(module, vec![ident.to_string()]), in_tests });
            }
            TokenTree::Group(group) => walk(module, &collect(group.stream()), found),
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        at += 1;
    }
}

/// `mod name { … }` at that place.
fn inline_module(trees: &[TokenTree], at: usize) -> Option<(String, Vec<TokenTree>)> {
    match (trees.get(at + 1)?, trees.get(at + 2)?) {
        (TokenTree::Ident(name), TokenTree::Group(body)) => Some((name.to_string(), collect(body.stream()))),
        _ => None,
    }
}

/// Reads what follows `prefix::`, adds every path it stands for and returns the place behind it.
fn tree_of(trees: &[TokenTree], at: usize, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    match trees.get(at) {
        Some(TokenTree::Ident(ident)) => {
            prefix.push(ident.to_string());
            let end = if separator(trees, at + 1) {
                tree_of(trees, at + 3, prefix, found)
            } else {
                found.push(prefix.clone());
                at + 1
            };
            prefix.pop();
            end
        }
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
            let inner = collect(group.stream());
            let mut place = 0;
            while place < inner.len() {
                // Commas, and `as name` behind a path: the name is no path of its own.
                place = match &inner[place] {
                    TokenTree::Punct(_) => place + 1,
                    TokenTree::Ident(ident) if ident == "as" => place + 2,
                    _ => tree_of(&inner, place, prefix, found),
                };
            }
            at + 1
        }
        // `::*`, `::<`, or the end of a macro's pattern: the path so far counts.
        _ => {
            found.push(prefix.clone());
            at
        }
    }
}

/// The path from the crate's root; as it stands if it begins at a name in scope or at another crate.
fn resolve(module: &[String], parts: Vec<String>) -> Vec<String> {
    let mut base = module.to_vec();
    let mut rest = parts.iter().map(String::as_str).peekable();
    match rest.next() {
        Some("crate") => base.clear(),
        Some("self") => {}
        Some("super") => drop(base.pop()),
        _ => return parts,
    }
    while rest.next_if_eq(&"super").is_some() {
        base.pop();
    }
    let tail = rest.filter(|part| *part != "self").map(str::to_owned);
    ["crate".to_owned()].into_iter().chain(base).chain(tail).collect()
}

/// `crate as name`, `super as name`: whatever the name leads to afterwards, it begins there.
fn renamed(trees: &[TokenTree], at: usize) -> bool {
    let is = |at, words: &[&str]| matches!(trees.get(at), Some(TokenTree::Ident(ident)) if words.iter().any(|word| ident == word));
    is(at, &["crate", "super"]) && is(at + 1, &["as", "self"])
}

fn follows_separator(trees: &[TokenTree], at: usize) -> bool {
    at >= 2 && separator(trees, at - 2)
}

/// `::` at that place.
fn separator(trees: &[TokenTree], at: usize) -> bool {
    let colon = |at| matches!(trees.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    colon(at) && colon(at + 1)
}
