//! Which rows have which columns, so that a plugin sees the values of those that it names: of a simple query the columns
//! come with the rows, of a prepared statement perhaps long before them.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::rc::Rc;

use wasmtime::component::Resource;

use super::instance::{Function, Instance, Stopped};
use super::wit::postern::plugin::types::{Cell, Column};
use crate::hooks::Failure;
use crate::postgres::wire::{split_text, tag};

/// The results of one session.
pub(super) struct Rows {
    /// What the database has yet to answer, in order; a login is the first.
    asked: VecDeque<Asked>,
    statements: HashMap<Box<[u8]>, Rc<Statement>>,
    portals: HashMap<Box<[u8]>, Rc<Portal>>,
    /// The columns that the plugin wants to see of the result that is coming.
    current: Option<Wanted>,
    /// Whether more was asked than can be remembered: no row is understood any more.
    is_lost: bool,
}

/// Something that is answered.
enum Asked {
    /// A simple query, a Sync, a function call, or a login: it ends with ReadyForQuery.
    UntilReady,
    Parse,
    Bind,
    Close,
    DescribeStatement(Rc<Statement>),
    DescribePortal(Rc<Portal>),
    Execute(Rc<Portal>),
}

/// A prepared statement.
#[derive(Default)]
struct Statement {
    columns: RefCell<Option<Vec<Column>>>,
}

/// A statement that was bound.
struct Portal {
    statement: Rc<Statement>,
    /// In which form values are asked for: none is text, one is for all.
    formats: Vec<bool>,
    columns: RefCell<Option<Vec<Column>>>,
}

/// What the plugin wants to see of a result.
enum Wanted {
    Nothing,
    Values,
}

/// Requests that are not answered yet.
const MOST_ASKED: usize = 16_384;
/// Statements and portals that are remembered, each.
const MOST_NAMES: usize = 5_000;

// === impl Rows ===

impl Rows {
    pub(super) fn new() -> Rows {
        Rows {
            asked: VecDeque::from([Asked::UntilReady]),
            statements: HashMap::new(),
            portals: HashMap::new(),
            current: None,
            is_lost: false,
        }
    }

    /// Whether the whole of this message from the peer says something about results.
    pub(super) fn reads(tag: u8) -> bool {
        matches!(tag, tag::PARSE | tag::BIND | tag::DESCRIBE | tag::EXECUTE | tag::CLOSE)
    }

    /// Notes a message that goes on to the database and has no body worth reading.
    pub(super) fn asks(&mut self, tag: u8) {
        if matches!(tag, tag::QUERY | tag::SYNC | tag::FUNCTION_CALL) {
            self.owe(Asked::UntilReady);
        }
    }

    /// Notes a whole message that goes on to the database, of those that [`Rows::reads`] names.
    pub(super) fn notes(&mut self, tag: u8, body: &[u8]) {
        // What is malformed the database answers with an error, which ends all that is owed until the next Sync.
        let asked = match tag {
            tag::PARSE => split_text(body).map(|(name, _)| {
                remember(&mut self.statements, name, Rc::default());
                Asked::Parse
            }),
            tag::BIND => self.bind(body),
            tag::EXECUTE => split_text(body).map(|(name, _)| Asked::Execute(self.portal(name))),
            tag::DESCRIBE | tag::CLOSE => self.describe_or_close(tag, body),
            _ => None,
        };
        if let Some(asked) = asked {
            self.owe(asked);
        }
    }

    /// A message goes on to the database that is too long to be read: what it changes is not known any more.
    pub(super) fn misses(&mut self, tag: u8) {
        match tag {
            tag::PARSE => self.statements.clear(),
            tag::BIND => self.portals.clear(),
            _ => {}
        }
    }

    fn owe(&mut self, asked: Asked) {
        self.is_lost |= self.asked.len() >= MOST_ASKED;
        if !self.is_lost {
            self.asked.push_back(asked);
        }
    }

    fn bind(&mut self, body: &[u8]) -> Option<Asked> {
        let (portal, rest) = split_text(body)?;
        let (statement, rest) = split_text(rest)?;
        let statement = self.statement(statement);
        let formats = result_formats(rest)?;
        let portal_of = Portal { statement, formats, columns: RefCell::default() };
        remember(&mut self.portals, portal, Rc::new(portal_of));
        Some(Asked::Bind)
    }

    fn describe_or_close(&mut self, tag: u8, body: &[u8]) -> Option<Asked> {
        let (kind, name) = body.split_first()?;
        let (name, _) = split_text(name)?;
        match (tag, kind) {
            (tag::DESCRIBE, b'S') => Some(Asked::DescribeStatement(self.statement(name))),
            (tag::DESCRIBE, _) => Some(Asked::DescribePortal(self.portal(name))),
            (_, b'S') => {
                self.statements.remove(name);
                Some(Asked::Close)
            }
            (_, _) => {
                self.portals.remove(name);
                Some(Asked::Close)
            }
        }
    }

    /// The statement of this name, which SQL may have prepared.
    fn statement(&mut self, name: &[u8]) -> Rc<Statement> {
        let statement = self.statements.get(name).cloned().unwrap_or_default();
        remember(&mut self.statements, name, statement.clone());
        statement
    }

    /// The portal of this name, which may be a cursor of SQL's.
    fn portal(&self, name: &[u8]) -> Rc<Portal> {
        let unknown = || Portal { statement: Rc::default(), formats: Vec::new(), columns: RefCell::default() };
        self.portals.get(name).cloned().unwrap_or_else(|| Rc::new(unknown()))
    }

    /// Notes a message of the database, of those that are not read as a whole.
    pub(super) fn hears(&mut self, tag: u8) {
        match tag {
            tag::READY_FOR_QUERY => {
                self.current = None;
                while self.asked.pop_front().is_some_and(|asked| !matches!(asked, Asked::UntilReady)) {}
            }
            tag::ERROR_RESPONSE => {
                self.current = None;
                while self.asked.front().is_some_and(|asked| !matches!(asked, Asked::UntilReady)) {
                    self.asked.pop_front();
                }
            }
            tag::COMMAND_COMPLETE | tag::EMPTY_QUERY_RESPONSE | tag::PORTAL_SUSPENDED => {
                self.current = None;
                self.pop_if(|asked| matches!(asked, Asked::Execute(_)));
            }
            tag::PARSE_COMPLETE => self.pop_if(|asked| matches!(asked, Asked::Parse)),
            tag::BIND_COMPLETE => self.pop_if(|asked| matches!(asked, Asked::Bind)),
            tag::CLOSE_COMPLETE => self.pop_if(|asked| matches!(asked, Asked::Close)),
            tag::NO_DATA => {
                self.pop_if(|asked| matches!(asked, Asked::DescribeStatement(_) | Asked::DescribePortal(_)));
            }
            _ => {}
        }
    }

    fn pop_if(&mut self, is_answered: impl FnOnce(&Asked) -> bool) {
        if self.asked.front().is_some_and(is_answered) {
            self.asked.pop_front();
        }
    }

    /// Reads a RowDescription: the columns of a result that follows, or of a statement.
    pub(super) fn describes(&mut self, body: &[u8], plugin: &mut Instance) -> Result<(), Failure> {
        let columns = columns_of(body);
        match self.asked.front() {
            Some(Asked::DescribeStatement(statement)) => *statement.columns.borrow_mut() = columns,
            Some(Asked::DescribePortal(portal)) => *portal.columns.borrow_mut() = columns,
            _ => {
                self.current = Some(wanted(columns, plugin)?);
                return Ok(());
            }
        }
        self.asked.pop_front();
        Ok(())
    }

    /// Whether the plugin wants to see a row that begins.
    pub(super) fn shows_row(&mut self, plugin: &mut Instance) -> Result<bool, Failure> {
        if self.current.is_none() {
            let columns = match self.asked.front() {
                Some(Asked::Execute(portal)) if !self.is_lost => portal.known_columns(),
                _ => None,
            };
            self.current = Some(Wanted::Nothing);
            self.current = Some(wanted(columns, plugin)?);
        }
        Ok(matches!(self.current, Some(Wanted::Values)))
    }
}

/// What the plugin wants to see of rows with these columns.
fn wanted(columns: Option<Vec<Column>>, plugin: &mut Instance) -> Result<Wanted, Failure> {
    let Some(columns) = columns else {
        let sentence = "the columns of a result are not known: its statement was never described".to_owned();
        return Err(plugin.miss(Function::OnColumns, Stopped { reason: "columns", sentence }));
    };
    let numbers = plugin.call(Function::OnColumns, |store, guest| guest.call_on_columns(store, &columns))?;
    plugin.plugin().count(Function::OnColumns, |calls| &calls.pass);
    Ok(if numbers.is_empty() { Wanted::Nothing } else { Wanted::Values })
}

/// Asks the plugin about a row; its body, where something is put in the place of values.
pub(super) fn row(body: &[u8], plugin: &mut Instance) -> Result<Option<Vec<u8>>, Failure> {
    let Some(values) = values_of(body) else { return Ok(None) };
    let cells = plugin.call_about(Function::OnRow, (body, &values), |store, guest| {
        guest.call_on_row(store, Resource::new_borrow(0))
    })?;
    plugin.plugin().count(Function::OnRow, |calls| if cells.is_empty() { &calls.pass } else { &calls.replace });
    if cells.is_empty() {
        return Ok(None);
    }
    let mut changed = Vec::with_capacity(body.len());
    changed.extend_from_slice(&body[..2]);
    for (column, place) in values.into_iter().enumerate() {
        let put = cells.iter().rfind(|cell| cell.column as usize == column);
        let value = match put {
            Some(Cell { value, .. }) => value.as_deref(),
            None => place.and_then(|place| body.get(place)),
        };
        let length = value.map_or(-1, |value| i32::try_from(value.len()).unwrap_or(i32::MAX));
        changed.extend_from_slice(&length.to_be_bytes());
        changed.extend_from_slice(value.unwrap_or_default());
    }
    Ok(Some(changed))
}

/// Keeps what has a name, unless there are too many.
fn remember<T>(known: &mut HashMap<Box<[u8]>, T>, name: &[u8], value: T) {
    if known.len() < MOST_NAMES || known.contains_key(name) {
        known.insert(name.into(), value);
    }
}

/// The forms in which a Bind asks for values; `body` is what follows its two names.
fn result_formats(mut body: &[u8]) -> Option<Vec<bool>> {
    for _ in 0..number(&mut body)? {
        number(&mut body)?;
    }
    for _ in 0..number(&mut body)? {
        let (length, rest) = body.split_first_chunk::<4>()?;
        // NULL has no bytes, and the length -1.
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        body = rest.get(length..)?;
    }
    (0..number(&mut body)?).map(|_| number(&mut body).map(|format| format == 1)).collect()
}

fn number(body: &mut &[u8]) -> Option<u16> {
    let (number, rest) = body.split_first_chunk::<2>()?;
    *body = rest;
    Some(u16::from_be_bytes(*number))
}

/// The columns of a RowDescription.
fn columns_of(mut body: &[u8]) -> Option<Vec<Column>> {
    let mut columns = Vec::new();
    for _ in 0..number(&mut body)? {
        let (name, rest) = split_text(body)?;
        let (table, rest) = rest.split_first_chunk::<4>()?;
        let (type_id, rest) = rest.get(2..)?.split_first_chunk::<4>()?;
        let mut rest = rest.get(6..)?;
        let is_binary = number(&mut rest)? == 1;
        body = rest;
        columns.push(Column {
            name: String::from_utf8_lossy(name).into_owned(),
            table: u32::from_be_bytes(*table),
            type_id: u32::from_be_bytes(*type_id),
            is_binary,
        });
    }
    Some(columns)
}

/// Where the values of a DataRow are in its body.
fn values_of(body: &[u8]) -> Option<Vec<Option<Range<usize>>>> {
    let mut rest = body;
    let count = number(&mut rest)?;
    let mut at = 2;
    let mut values = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let length = i32::from_be_bytes(*body.get(at..)?.first_chunk::<4>()?);
        at += 4;
        values.push(match usize::try_from(length) {
            Ok(length) => {
                body.get(at..at.checked_add(length)?)?;
                at += length;
                Some(at - length..at)
            }
            Err(_) => None,
        });
    }
    Some(values)
}

// === impl Portal ===

impl Portal {
    /// Its columns, as it was described, or as its statement was and it was bound.
    fn known_columns(&self) -> Option<Vec<Column>> {
        if let Some(columns) = &*self.columns.borrow() {
            return Some(columns.clone());
        }
        let mut columns = self.statement.columns.borrow().clone()?;
        for (index, column) in columns.iter_mut().enumerate() {
            let format = match &*self.formats {
                [] => false,
                [all] => *all,
                each => each.get(index).copied().unwrap_or_default(),
            };
            column.is_binary = format;
        }
        Some(columns)
    }
}
