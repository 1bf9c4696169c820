//! What a table says, parsed: the words are explained in `tests/behaviour/README.txt`.

use std::time::Duration;

/// A table: one file of stories about one subject.
#[derive(Debug)]
pub struct Table {
    /// The file's name without its ending.
    pub name: &'static str,
    /// Its stories, in order.
    pub stories: Vec<Story>,
}

/// What follows when a cache does not do as the story says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It breaks a MUST or MUST NOT, or alters a message that it may not alter.
    Required,
    /// It costs speed or clarity that the RFCs ask for with SHOULD or allow.
    Optimal,
    /// It is only koorde's own promise.
    Koorde,
}

/// One client, one origin, the cache between them, and a URL of their own.
#[derive(Clone, Debug)]
pub struct Story {
    /// Its table's name.
    pub table: &'static str,
    /// The line of its title.
    pub line: usize,
    /// What is said to be so.
    pub title: String,
    /// Who is bound by it.
    pub level: Level,
    /// It is about messages on their way, so pure functions cannot play it.
    pub messages_only: bool,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// One step of a story.
#[derive(Clone, Debug)]
pub enum Step {
    /// Time passes.
    Wait(Duration),
    /// These requests are sent, each a moment after the one before it, and all are answered.
    Together(Vec<Exchange>),
}

/// A request, what the origin says if it is asked, and what has to come of it.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// The line it begins at.
    pub line: usize,
    /// What the client sends.
    pub request: Request,
    /// What the origin answers to the requests that reach it meanwhile; the last one again and
    /// again.
    pub answers: Vec<Answer>,
    /// What the first request that reaches the origin must be.
    pub seen: Vec<(usize, Seen)>,
    /// What the client must get.
    pub expected: Vec<Expected>,
}

/// What the client sends.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// As it is on the wire.
    pub method: String,
    /// Follows the story's own path: empty, `?query` or `/more`.
    pub suffix: String,
    /// In order.
    pub fields: Vec<(String, String)>,
    /// Sent with Content-Length, or in one chunk if the fields say Transfer-Encoding.
    pub body: Option<String>,
}

/// What the origin answers to one request.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Interim responses before the final one.
    pub interims: Vec<(u16, Vec<(String, String)>)>,
    /// The final status and reason; none: the connection is closed without a word.
    pub status: Option<(u16, String)>,
    /// In order. Date, Content-Length and the number of the answer are added.
    pub fields: Vec<(String, String)>,
    /// None: a text that names the answer.
    pub body: Option<Body>,
    /// The representation of which a 206 is a part: the origin then takes the part that the request
    /// asks for, or sends all of it with 200 if none is asked for.
    pub whole: Option<String>,
    /// How long the origin thinks.
    pub delay: Duration,
    /// Whether Date is left out.
    pub no_date: bool,
}

/// How the origin sends a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// With Content-Length, unless the fields have one.
    Plain(String),
    /// With Transfer-Encoding, in these chunks.
    Chunked(Vec<String>),
    /// Without length: the end of the connection ends it.
    UntilClose(String),
    /// The connection breaks after it; the Content-Length of the fields promises more.
    Cut(String),
    /// The same, with chunks that never end.
    CutChunked(String),
}

/// Something that the origin must see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// All lines of a field, joined.
    Field(String, Value),
    /// A field that must not be there.
    NoField(String),
    /// The body.
    Body(String),
    /// The method.
    Method(String),
    /// What follows the story's path.
    Suffix(String),
    /// How many requests come in this step.
    Times(usize),
}

/// Something that the client must see.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The line that says so.
    pub line: usize,
    /// Whether only koorde promises it.
    pub koorde_only: bool,
    /// What.
    pub what: What,
}

/// What the client sees.
#[derive(Clone, Debug)]
pub enum What {
    /// A status out of some, and where the answer comes from.
    Result(Vec<String>, Option<Source>),
    /// All lines of a field, joined.
    Field(String, Value),
    /// A field that must not be there.
    NoField(String),
    /// The body.
    Body(String),
    /// What the body must not be.
    BodyNot(String),
    /// An interim response of this status; maybe with a field.
    Interim(u16, Option<(String, Value)>),
    /// No interim response.
    NoInterim,
}

/// Where an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The origin made it for this very request.
    Origin,
    /// It was stored before, and the origin was not asked.
    Cache,
    /// It was stored before, and the origin said 304 now.
    Validated,
    /// It was stored before; the origin may have been asked but had no answer that counts.
    StaleOnError,
    /// It was stored before, and the origin is asked behind the client's back.
    ThenRefreshed,
    /// It breaks off.
    Cut,
}

/// What a field's value has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// This.
    Is(String),
    /// Something with this in it.
    Contains(String),
    /// A number in these bounds, both included.
    Between(u64, u64),
    /// Anything, but it has to be there.
    Any,
}
