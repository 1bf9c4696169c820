//! Names by which stored responses can be purged together: tags, which belong to
//! the cluster's operator, and groups, which belong to one origin (RFC 9875).
//!
//! The fields stay in the response. Whether clients see them is not decided here.

use super::fields::list::trim;
use super::fields::structured::{self, Item};
use http::{HeaderMap, HeaderName};

/// How many names are kept of one response. RFC 9875 §2 asks for 32 groups.
pub const MAX_NAMES: usize = 128;

/// The longest name that is kept, in bytes. RFC 9875 §2 asks for 32.
pub const MAX_NAME_LEN: usize = 256;

const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
pub(super) const GROUP_INVALIDATION: HeaderName =
    HeaderName::from_static("cache-group-invalidation");

/// The fields that [`Tags::read`] reads.
pub(super) const FIELDS: [HeaderName; 3] = [SURROGATE_KEY, CACHE_TAG, CACHE_GROUPS];

/// The names that a response carries. They are compared byte by byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    tags: Box<[Box<str>]>,
    groups: Box<[Box<str>]>,
    truncated: bool,
}

impl Tags {
    /// Reads `Surrogate-Key` (names parted by spaces), `Cache-Tag` (by commas) and
    /// `Cache-Groups` (a structured list of strings, RFC 9875 §2, ignored as a whole
    /// if it is anything else).
    ///
    /// At most [`MAX_NAMES`] are kept, each once, of 1 to [`MAX_NAME_LEN`] bytes of
    /// UTF-8. Where there were others, [`Tags::truncated`] is true.
    pub fn read(fields: &HeaderMap) -> Self {
        let mut tags = Names::default();
        let lines = |name| fields.get_all(name).iter().map(|line| line.as_bytes());
        let spaced =
            lines(SURROGATE_KEY).flat_map(|line| line.split(|byte| matches!(byte, b' ' | b'\t')));
        let listed = lines(CACHE_TAG).flat_map(|line| line.split(|byte| *byte == b',').map(trim));
        for name in spaced.chain(listed) {
            tags.add(name, MAX_NAMES);
        }
        let left = MAX_NAMES - tags.names.len();
        let groups = read_groups(fields, &CACHE_GROUPS, left);
        let boxed = |names: Vec<String>| names.into_iter().map(String::into_boxed_str).collect();
        Self {
            truncated: tags.truncated || groups.truncated,
            tags: boxed(tags.names),
            groups: boxed(groups.names),
        }
    }

    /// The tags that were kept, in order of their bytes.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.tags.iter().map(|name| &**name)
    }

    /// The groups that were kept, in order of their bytes. They are names within
    /// the origin of the response and mean nothing beside that of another (RFC 9875
    /// §2.1).
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(|name| &**name)
    }

    /// Whether there were names that are not kept: too many, too long, or no UTF-8.
    /// Nobody knows them any more, so a purge of *any* tag or group has to take this
    /// response too: purging too much costs a request, too little is a wrong answer.
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    /// Whether a purge of this tag takes the response.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.truncated || contains(&self.tags, tag)
    }

    /// Whether a purge of this group takes the response, if it is of the same origin:
    /// that is the caller's to compare.
    pub fn has_group(&self, group: &str) -> bool {
        self.truncated || contains(&self.groups, group)
    }

    /// Whether no purge by name ever takes it.
    pub fn is_empty(&self) -> bool {
        !self.truncated && self.tags.is_empty() && self.groups.is_empty()
    }

    /// Memory on the heap, in bytes.
    pub(super) fn weight(&self) -> usize {
        let one = |name: &str| name.len() + size_of::<Box<str>>() + ALLOCATION;
        self.tags().chain(self.groups()).map(one).sum()
    }
}

/// What an allocation costs beside its bytes, estimated.
const ALLOCATION: usize = 16;

fn contains(names: &[Box<str>], name: &str) -> bool {
    names.binary_search_by(|known| (**known).cmp(name)).is_ok()
}

/// The groups that a field lists, at most [`MAX_NAMES`], and whether it lists more.
pub(super) fn groups(fields: &HeaderMap, name: &HeaderName) -> (Vec<String>, bool) {
    let groups = read_groups(fields, name, MAX_NAMES);
    (groups.names, groups.truncated)
}

fn read_groups(fields: &HeaderMap, name: &HeaderName, most: usize) -> Names {
    let lines: Vec<&[u8]> = fields.get_all(name).iter().map(|v| v.as_bytes()).collect();
    let members = structured::list(&lines.join(&b", "[..])).unwrap_or_default();
    let mut groups = Names::default();
    if members
        .iter()
        .all(|member| matches!(member, Item::String(_)))
    {
        for member in &members {
            if let Item::String(group) = member {
                groups.add(group, most);
            }
        }
    }
    groups
}

/// Names in order, each once, under the bounds.
#[derive(Default)]
struct Names {
    names: Vec<String>,
    truncated: bool,
}

impl Names {
    fn add(&mut self, name: &[u8], most: usize) {
        if name.is_empty() {
            return;
        }
        match std::str::from_utf8(name) {
            Ok(name) if name.len() <= MAX_NAME_LEN => {
                let Err(at) = self
                    .names
                    .binary_search_by(|known| known.as_str().cmp(name))
                else {
                    return;
                };
                if self.names.len() < most {
                    self.names.insert(at, name.to_owned());
                } else {
                    self.truncated = true;
                }
            }
            _ => self.truncated = true,
        }
    }
}
