//! Which operations exist on single elements? Names and kinds only; meanings are written once per concern.

use serde::{Deserialize, Serialize};

macro_rules! scalar_ops {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$doc])* $variant,)+ }
        impl $name {
            /// Every operation, in declaration order.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];
            /// The mnemonic of the text format.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }
            /// The operation called `name`, if there is one.
            pub fn parse(name: &str) -> Option<$name> {
                match name { $($text => Some($name::$variant),)+ _ => None }
            }
        }
    };
}

scalar_ops! {
    /// One operand, result of the same dtype.
    UnaryOp {
        /// `-x`; integers wrap.
        Neg = "neg",
        /// `|x|`; integers wrap.
        Abs = "abs",
        /// -1, 0 or 1; NaN stays NaN.
        Sign = "sign",
        /// Largest integer not above `x`. Floats only.
        Floor = "floor",
        /// Smallest integer not below `x`. Floats only.
        Ceil = "ceil",
        /// Nearest integer, ties to even. Floats only.
        Round = "round",
        /// Square root, NaN below zero. Floats only.
        Sqrt = "sqrt",
        /// `1 / sqrt(x)`. Floats only.
        Rsqrt = "rsqrt",
        /// `1 / x`. Floats only.
        Recip = "recip",
        /// e to the `x`. Floats only.
        Exp = "exp",
        /// Natural logarithm. Floats only.
        Log = "log",
        /// Sine of radians. Floats only.
        Sin = "sin",
        /// Cosine of radians. Floats only.
        Cos = "cos",
        /// Hyperbolic tangent. Floats only.
        Tanh = "tanh",
        /// Gauss error function. Floats only.
        Erf = "erf",
        /// Logical negation for bool, bitwise complement for integers.
        Not = "not",
    }
}

scalar_ops! {
    /// Two operands of one dtype; comparisons give bool, the rest give the operands' dtype.
    BinaryOp {
        /// `x + y`; integers wrap.
        Add = "add",
        /// `x - y`; integers wrap.
        Sub = "sub",
        /// `x * y`; integers wrap.
        Mul = "mul",
        /// `x / y`; integers truncate, and anything over 0 is 0.
        Div = "div",
        /// Remainder with the sign of `x`; integers over 0 give 0.
        Rem = "rem",
        /// `x` to the `y`. Floats only.
        Pow = "pow",
        /// The larger; NaN if either is NaN.
        Max = "max",
        /// The smaller; NaN if either is NaN.
        Min = "min",
        /// Bitwise and logical and. Integers and bool.
        And = "and",
        /// Bitwise and logical or. Integers and bool.
        Or = "or",
        /// Bitwise and logical exclusive or. Integers and bool.
        Xor = "xor",
        /// `x == y`, as bool.
        Eq = "eq",
        /// `x != y`, as bool; true if either is NaN.
        Ne = "ne",
        /// `x < y`, as bool.
        Lt = "lt",
        /// `x <= y`, as bool.
        Le = "le",
        /// `x > y`, as bool.
        Gt = "gt",
        /// `x >= y`, as bool.
        Ge = "ge",
    }
}

scalar_ops! {
    /// How elements along reduced axes combine.
    ReduceOp {
        /// Sum, kept in f32 or wider for floats.
        Sum = "sum",
        /// Product, kept in f32 or wider for floats.
        Prod = "prod",
        /// Largest; NaN if any is NaN.
        Max = "max",
        /// Smallest; NaN if any is NaN.
        Min = "min",
        /// Index of the largest as i32, the lowest index on ties; a NaN counts as larger than all numbers.
        ArgMax = "argmax",
        /// Index of the smallest as i32, the lowest index on ties; a NaN counts as smaller than all numbers.
        ArgMin = "argmin",
    }
}

impl UnaryOp {
    /// True when only float operands make sense.
    pub const fn float_only(self) -> bool {
        !matches!(self, UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sign | UnaryOp::Not)
    }

    /// True when a device spends many instructions on it, so that computing it twice is worth avoiding.
    pub const fn is_costly(self) -> bool {
        matches!(
            self,
            UnaryOp::Exp
                | UnaryOp::Log
                | UnaryOp::Sin
                | UnaryOp::Cos
                | UnaryOp::Tanh
                | UnaryOp::Erf
                | UnaryOp::Sqrt
                | UnaryOp::Rsqrt
                | UnaryOp::Recip
        )
    }
}

impl BinaryOp {
    /// True for the six comparisons, whose result is bool.
    pub const fn is_comparison(self) -> bool {
        matches!(self, BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge)
    }

    /// True for and, or and xor, which take integers or bool.
    pub const fn is_bitwise(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Xor)
    }

    /// True when swapping the operands changes nothing.
    pub const fn is_commutative(self) -> bool {
        use BinaryOp::{Add, And, Eq, Max, Min, Mul, Ne, Or, Xor};
        matches!(self, Add | Mul | Max | Min | And | Or | Xor | Eq | Ne)
    }
}

impl ReduceOp {
    /// True for argmax and argmin, whose result is an index.
    pub const fn is_index(self) -> bool {
        matches!(self, ReduceOp::ArgMax | ReduceOp::ArgMin)
    }
}
