// Stands for headers that only host code uses, or whose content is built in.
#pragma once
