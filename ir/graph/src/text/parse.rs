//! Reads a graph from text; every value may have a name of its own, types may be left out where they follow.

use super::attrs::{self, Attr, AttrMap};
use super::lex::{Kind, Token, lex};
use crate::graph::{Graph, Node, NodeId, Scalar, TensorType};
use crate::infer::infer;
use crate::ops::Op;
use enel_types::{DType, Dim, MAX_TERMS, Symbol, Symbols};
use std::collections::HashMap;

/// Attributes of one op: more than any has.
const MAX_ATTRS: usize = 8;

/// A line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ParseError {
    /// Counts from 1.
    pub line: usize,
    /// What was expected and what stands there.
    pub message: String,
}

/// Reads one graph. Types are checked by [`crate::verify`], not here.
///
/// # Errors
/// [`ParseError`] with the line of the first unreadable token.
pub fn parse(source: &str) -> Result<Graph, ParseError> {
    let tokens = lex(source).map_err(|(line, message)| ParseError { line, message })?;
    let mut reader =
        Reader { tokens: &tokens, at: 0, graph: Graph::new("", Symbols::default()), names: HashMap::new() };
    reader.graph()?;
    Ok(reader.graph)
}

struct Reader<'t> {
    tokens: &'t [Token],
    at: usize,
    graph: Graph,
    names: HashMap<String, NodeId>,
}

type Read<T> = Result<T, ParseError>;

impl Reader<'_> {
    fn peek(&self) -> Option<&Kind> {
        self.tokens.get(self.at).map(|t| &t.kind)
    }

    fn error<T>(&self, message: impl Into<String>) -> Read<T> {
        let line = self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |t| t.line);
        Err(ParseError { line, message: message.into() })
    }

    fn expected<T>(&self, what: &str) -> Read<T> {
        let found = match self.peek() {
            None => "the end of the file".into(),
            Some(Kind::Newline) => "the end of the line".into(),
            Some(Kind::Word(w)) => format!("`{w}`"),
            Some(Kind::Value(v)) => format!("`%{v}`"),
            Some(Kind::Mark(m)) => format!("`{m}`"),
            Some(Kind::Int(x)) => format!("`{x}`"),
            Some(Kind::Float(x)) => format!("`{x}`"),
            Some(Kind::Text(t)) => format!("{t:?}"),
        };
        self.error(format!("expected {what}, found {found}"))
    }

    fn accept(&mut self, mark: &'static str) -> bool {
        let hit = self.peek() == Some(&Kind::Mark(mark));
        self.at += usize::from(hit);
        hit
    }

    fn need(&mut self, mark: &'static str) -> Read<()> {
        if self.accept(mark) { Ok(()) } else { self.expected(&format!("`{mark}`")) }
    }

    fn word(&mut self, what: &str) -> Read<String> {
        match self.peek() {
            Some(Kind::Word(w)) => {
                let w = w.clone();
                self.at += 1;
                Ok(w)
            }
            _ => self.expected(what),
        }
    }

    fn keyword(&mut self, word: &str) -> bool {
        let hit = matches!(self.peek(), Some(Kind::Word(w)) if w == word);
        self.at += usize::from(hit);
        hit
    }

    fn int(&mut self) -> Read<i64> {
        match self.peek() {
            Some(&Kind::Int(x)) => {
                self.at += 1;
                Ok(x)
            }
            _ => self.expected("a whole number"),
        }
    }

    fn skip_lines(&mut self) {
        while self.peek() == Some(&Kind::Newline) {
            self.at += 1;
        }
    }

    fn end_line(&mut self) -> Read<()> {
        match self.peek() {
            None => Ok(()),
            Some(Kind::Newline) => {
                self.skip_lines();
                Ok(())
            }
            Some(_) => self.expected("the end of the line"),
        }
    }

    fn graph(&mut self) -> Read<()> {
        self.skip_lines();
        if !self.keyword("graph") {
            return self.expected("`graph @name {`");
        }
        self.need("@")?;
        self.graph.name = self.word("a graph name")?;
        self.need("{")?;
        self.end_line()?;
        loop {
            if self.keyword("sym") {
                self.symbol()?;
            } else if self.keyword("return") {
                self.outputs()?;
                self.end_line()?;
                self.need("}")?;
                self.skip_lines();
                return if self.peek().is_none() { Ok(()) } else { self.expected("the end of the file") };
            } else {
                self.node()?;
            }
            self.end_line()?;
        }
    }

    fn symbol(&mut self) -> Read<()> {
        let name = self.word("a symbol name")?;
        if !self.keyword("in") {
            return self.expected("`in MIN..=MAX`");
        }
        let min = self.int()?;
        self.need("..=")?;
        let max = self.int()?;
        let multiple = if self.keyword("step") { self.int()? } else { 1 };
        match self.graph.symbols.add(Symbol { name, min, max, multiple }) {
            Ok(_) => Ok(()),
            Err(e) => self.error(e.to_string()),
        }
    }

    fn value(&mut self) -> Read<NodeId> {
        let Some(Kind::Value(name)) = self.peek() else { return self.expected("a value like `%0`") };
        match self.names.get(name) {
            Some(&id) => {
                self.at += 1;
                Ok(id)
            }
            None => self.error(format!("`%{name}` is not defined above")),
        }
    }

    fn outputs(&mut self) -> Read<()> {
        loop {
            let name = match self.peek() {
                Some(Kind::Text(t) | Kind::Word(t)) => t.clone(),
                _ => return self.expected("`name = %value`"),
            };
            self.at += 1;
            self.need("=")?;
            let value = self.value()?;
            if self.keyword("updates") {
                let state = self.value()?;
                self.graph.output_state(&name, value, state);
            } else {
                self.graph.output(&name, value);
            }
            if !self.accept(",") {
                return Ok(());
            }
        }
    }

    fn node(&mut self) -> Read<()> {
        let Some(Kind::Value(name)) = self.peek() else {
            return self.expected("`%name = op ...`, `sym ...` or `return ...`");
        };
        let name = name.clone();
        if self.names.contains_key(&name) {
            return self.error(format!("`%{name}` is defined twice"));
        }
        self.at += 1;
        self.need("=")?;
        let line = self.at;
        let op_name = self.word("an op")?;
        let mut map = AttrMap(Vec::new());
        let mut literal = None;
        match self.peek() {
            Some(Kind::Text(t)) if matches!(op_name.as_str(), "input" | "weight" | "state") => {
                map.0.push(("name".into(), Attr::Text(t.clone())));
                self.at += 1;
            }
            _ if op_name == "const" => literal = Some(self.literal()?),
            _ => {}
        }
        let mut operands = Vec::new();
        while matches!(self.peek(), Some(Kind::Value(_))) {
            operands.push(self.value()?);
            if !self.accept(",") {
                break;
            }
        }
        if self.accept("{") {
            self.attrs(&mut map)?;
        }
        let stated = if self.accept(":") { Some(self.ty()?) } else { None };
        let op = match literal {
            Some(values) => self.constant(values, stated.as_ref())?,
            // Without a stated type a pad has the dtype of its operand.
            None => {
                let hint = stated.as_ref().or(operands.first().map(|&o| self.graph.ty(o)));
                let hint = if op_name == "pad" { hint } else { stated.as_ref() };
                attrs::read(&op_name, &mut map, hint)
                    .map_err(|message| ParseError { line: self.tokens[line].line, message })?
            }
        };
        if let Some((key, _)) = map.0.first() {
            return self.error(format!("`{op_name}` has no attribute `{key}`"));
        }
        let types: Vec<&TensorType> = operands.iter().map(|&o| self.graph.ty(o)).collect();
        let ty = match (stated, infer(&op, &types, &self.graph.symbols)) {
            (Some(ty), _) | (None, Ok(ty)) => ty,
            (None, Err(f)) => return self.error(format!("`{op_name}` breaks C{}: {}", f.rule, f.message)),
        };
        let id = self.graph.push_unchecked(Node { op, operands, ty });
        self.names.insert(name, id);
        Ok(())
    }

    fn constant(&self, values: Vec<Scalar>, ty: Option<&TensorType>) -> Read<Op> {
        let Some(ty) = ty else { return self.error("`const` needs its type, as in `: f32[]`") };
        let float = ty.dtype.is_float();
        let fit = |v: Scalar| if float { Scalar::F(v.as_f64()) } else { v };
        Ok(Op::Const { values: values.into_iter().map(fit).collect(), ty: ty.clone() })
    }

    fn literal(&mut self) -> Read<Vec<Scalar>> {
        if !self.accept("[") {
            return Ok(vec![self.number()?]);
        }
        let mut values = vec![self.number()?];
        while self.accept(",") {
            values.push(self.number()?);
        }
        self.need("]")?;
        Ok(values)
    }

    fn number(&mut self) -> Read<Scalar> {
        let negative = self.accept("-");
        let value = match self.peek() {
            Some(&Kind::Int(x)) => Scalar::I(if negative { -x } else { x }),
            Some(&Kind::Float(x)) => Scalar::F(if negative { -x } else { x }),
            Some(Kind::Word(w)) if w == "inf" => Scalar::F(if negative { f64::NEG_INFINITY } else { f64::INFINITY }),
            Some(Kind::Word(w)) if w == "nan" => Scalar::F(f64::NAN),
            Some(Kind::Word(w)) if w == "true" || w == "false" => Scalar::I(i64::from(w == "true")),
            _ => return self.expected("a number"),
        };
        self.at += 1;
        Ok(value)
    }

    fn attrs(&mut self, map: &mut AttrMap) -> Read<()> {
        loop {
            let key = self.word("an attribute name")?;
            if map.0.len() == MAX_ATTRS {
                return self.error(format!("no op has more than {MAX_ATTRS} attributes"));
            }
            if map.0.iter().any(|(k, _)| *k == key) {
                return self.error(format!("attribute `{key}` is given twice"));
            }
            self.need("=")?;
            let value = self.attr()?;
            map.0.push((key, value));
            if !self.accept(",") {
                return self.need("}");
            }
        }
    }

    fn attr(&mut self) -> Read<Attr> {
        if self.accept("[") {
            let mut dims = Vec::new();
            if !self.accept("]") {
                dims.push(self.dim()?);
                while self.accept(",") {
                    dims.push(self.dim()?);
                }
                self.need("]")?;
            }
            return Ok(Attr::Dims(dims));
        }
        let negative_float = self.peek() == Some(&Kind::Mark("-"))
            && match self.tokens.get(self.at + 1).map(|t| &t.kind) {
                Some(Kind::Float(_)) => true,
                Some(Kind::Word(w)) => w == "inf",
                _ => false,
            };
        match self.peek() {
            Some(Kind::Text(t)) => {
                let t = t.clone();
                self.at += 1;
                Ok(Attr::Text(t))
            }
            Some(Kind::Word(w)) if w == "true" || w == "false" => {
                let b = w == "true";
                self.at += 1;
                Ok(Attr::Bool(b))
            }
            Some(Kind::Float(_)) => Ok(Attr::Number(self.number()?)),
            Some(Kind::Word(w)) if w == "inf" || w == "nan" => Ok(Attr::Number(self.number()?)),
            _ if negative_float => Ok(Attr::Number(self.number()?)),
            Some(Kind::Word(w)) if self.graph.symbols.find(w).is_none() => {
                let w = w.clone();
                self.at += 1;
                Ok(Attr::Word(w))
            }
            _ => Ok(Attr::Dim(self.dim()?)),
        }
    }

    /// `term (+ term)*`, a term being `factor (* factor)*`.
    fn dim(&mut self) -> Read<Dim> {
        let mut sum = Dim::constant(0);
        let mut sign = if self.accept("-") { -1 } else { 1 };
        loop {
            let mut term = Dim::constant(sign).mul(&self.factor()?);
            while self.accept("*") {
                term = term.mul(&self.factor()?);
                if !term.is_short() {
                    return self.error(format!("a size has more than {MAX_TERMS} terms or factors"));
                }
            }
            sum = sum.add(&term);
            if !sum.is_short() {
                return self.error(format!("a size has more than {MAX_TERMS} terms or factors"));
            }
            if self.accept("+") {
                sign = 1;
            } else if self.accept("-") {
                sign = -1;
            } else {
                return Ok(sum);
            }
        }
    }

    fn factor(&mut self) -> Read<Dim> {
        match self.peek() {
            Some(&Kind::Int(x)) => {
                self.at += 1;
                Ok(Dim::constant(x))
            }
            Some(Kind::Word(w)) => match self.graph.symbols.find(w) {
                Some(id) => {
                    self.at += 1;
                    Ok(Dim::sym(id))
                }
                None => self.error(format!("symbol `{w}` is not declared")),
            },
            _ => self.expected("a size"),
        }
    }

    fn ty(&mut self) -> Read<TensorType> {
        let word = self.word("a dtype")?;
        let Some(dtype) = DType::parse(&word) else { return self.error(format!("`{word}` is no dtype")) };
        self.need("[")?;
        let mut shape = Vec::new();
        if !self.accept("]") {
            shape.push(self.dim()?);
            while self.accept(",") {
                shape.push(self.dim()?);
            }
            self.need("]")?;
        }
        let ty = TensorType { dtype, shape };
        if ty.is_short() { Ok(ty) } else { self.error("the tensor's size has too many terms") }
    }
}
