/* SPDX-License-Identifier: MIT */
#include "sd_kvm.h"
