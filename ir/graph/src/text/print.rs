//! Prints a graph in the text format.

use super::attrs::{self, Attr};
use crate::graph::{Graph, NodeId, Scalar};
use crate::ops::Op;
use enel_types::Dim;
use std::fmt;

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "graph @{} {{", self.name)?;
        for s in self.symbols.iter() {
            write!(f, "  sym {} in {}..={}", s.name, s.min, s.max)?;
            if s.multiple != 1 {
                write!(f, " step {}", s.multiple)?;
            }
            writeln!(f)?;
        }
        for id in self.ids() {
            writeln!(f, "  {id} = {}", self.line(id))?;
        }
        let outputs = self.outputs.iter().map(|o| match o.updates {
            None => format!("{} = {}", quote(&o.name), o.value),
            Some(state) => format!("{} = {} updates {state}", quote(&o.name), o.value),
        });
        writeln!(f, "  return {}", outputs.collect::<Vec<_>>().join(", "))?;
        writeln!(f, "}}")
    }
}

impl Graph {
    /// The right-hand side of a node's line: op, operands, attributes, type.
    pub fn line(&self, id: NodeId) -> String {
        let node = self.node(id);
        let mut line = node.op.name();
        match &node.op {
            Op::Input { name, .. } => line += &format!(" {}", quote(name)),
            Op::Const { values, .. } => line += &format!(" {}", literal(values)),
            _ => {}
        }
        let operands: Vec<String> = node.operands.iter().map(NodeId::to_string).collect();
        if !operands.is_empty() {
            line += &format!(" {}", operands.join(", "));
        }
        let attrs: Vec<String> =
            attrs::list(&node.op).into_iter().map(|(key, value)| format!("{key} = {}", self.attr(&value))).collect();
        if !attrs.is_empty() {
            line += &format!(" {{{}}}", attrs.join(", "));
        }
        line + " : " + &node.ty.display(&self.symbols)
    }

    fn attr(&self, attr: &Attr) -> String {
        let dim = |d: &Dim| d.display(&self.symbols).to_string();
        match attr {
            Attr::Dims(list) => format!("[{}]", list.iter().map(dim).collect::<Vec<_>>().join(", ")),
            Attr::Dim(d) => dim(d),
            Attr::Bool(b) => b.to_string(),
            Attr::Number(x) => scalar(*x),
            Attr::Word(w) => w.clone(),
            Attr::Text(t) => quote(t),
        }
    }
}

fn scalar(x: Scalar) -> String {
    match x {
        Scalar::I(x) => x.to_string(),
        Scalar::F(x) if x.is_nan() => "nan".into(),
        Scalar::F(x) => format!("{x:?}"),
    }
}

fn literal(values: &[Scalar]) -> String {
    match values {
        [one] => scalar(*one),
        list => format!("[{}]", list.iter().map(|x| scalar(*x)).collect::<Vec<_>>().join(", ")),
    }
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            c => out.push(c),
        }
    }
    out + "\""
}
