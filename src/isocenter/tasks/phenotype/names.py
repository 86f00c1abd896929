"""Names of radiomic features: the tags of the IBSI reference tables, and the four-character codes of the IBSI manual.

A tag of a texture feature ends in how matrices were brought together, e.g. ``cm_contrast_3D_avg``: `FEATURES` is keyed
by what comes before, `AGGREGATIONS` by the end.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AGGREGATIONS", "FAMILIES", "FEATURES", "FeatureName", "feature_name"]

FAMILIES = {
    "morph": ("HCUG", "Morphology"),
    "loc": ("9ST6", "Local intensity"),
    "stat": ("UHIW", "Intensity statistics"),
    "ih": ("ZVCW", "Intensity histogram"),
    "ivh": ("P88C", "Intensity-volume histogram"),
    "cm": ("LFYI", "Grey level co-occurrence matrix"),
    "rlm": ("TP0I", "Grey level run length matrix"),
    "szm": ("9SAK", "Grey level size zone matrix"),
    "dzm": ("VMDZ", "Grey level distance zone matrix"),
    "ngt": ("IPET", "Neighbourhood grey tone difference matrix"),
    "ngl": ("REK0", "Neighbouring grey level dependence matrix"),
}
"""IBSI code and name of each family, by the start of its tags."""

AGGREGATIONS = {
    "2D_avg": ("BTW3", "2D, averaged over slices and directions"),
    "2D_comb": ("SUJT", "2D, directions merged, averaged over slices"),
    "2_5D_avg": ("JJUI", "2.5D, slices merged, averaged over directions"),
    "2_5D_comb": ("ZW7Z", "2.5D, slices and directions merged"),
    "3D_avg": ("ITBB", "3D, averaged over directions"),
    "3D_comb": ("IAZD", "3D, directions merged"),
    "2D": ("8QNN", "2D, averaged over slices"),
    "2_5D": ("62GR", "2.5D, slices merged"),
    "3D": ("KOBO", "3D"),
}
"""IBSI code and meaning of each way to bring matrices together, by the end of a tag."""


@dataclass(frozen=True)
class FeatureName:
    """What a feature is called.

    Args:
        tag: As in the IBSI reference tables, e.g. "cm_contrast_3D_avg".
        code: IBSI code of the feature, e.g. "ACUI".
        title: In words.
        family: Start of the tag, a key of `FAMILIES`.
        aggregation: End of the tag, a key of `AGGREGATIONS`; "" where there is none.
    """

    tag: str
    code: str
    title: str
    family: str
    aggregation: str


_TABLE = """
morph_volume RNU0 Volume (mesh)
morph_vol_approx YEKZ Volume (voxel counting)
morph_area_mesh C0JK Surface area (mesh)
morph_av 2PR5 Surface to volume ratio
morph_comp_1 SKGS Compactness 1
morph_comp_2 BQWJ Compactness 2
morph_sph_dispr KRCK Spherical disproportion
morph_sphericity QCFX Sphericity
morph_asphericity 25C7 Asphericity
morph_com KLMA Centre of mass shift
morph_diam L0JK Maximum 3D diameter
morph_pca_maj_axis TDIC Major axis length
morph_pca_min_axis P9VJ Minor axis length
morph_pca_least_axis 7J51 Least axis length
morph_pca_elongation Q3CK Elongation
morph_pca_flatness N17B Flatness
morph_vol_dens_aabb PBX1 Volume density (axis-aligned bounding box)
morph_area_dens_aabb R59B Area density (axis-aligned bounding box)
morph_vol_dens_ombb ZH1A Volume density (oriented minimum bounding box)
morph_area_dens_ombb IQYR Area density (oriented minimum bounding box)
morph_vol_dens_aee 6BDE Volume density (approximate enclosing ellipsoid)
morph_area_dens_aee RDD2 Area density (approximate enclosing ellipsoid)
morph_vol_dens_mvee SWZ1 Volume density (minimum volume enclosing ellipsoid)
morph_area_dens_mvee BRI8 Area density (minimum volume enclosing ellipsoid)
morph_vol_dens_conv_hull R3ER Volume density (convex hull)
morph_area_dens_conv_hull 7T7F Area density (convex hull)
morph_integ_int 99N0 Integrated intensity
morph_moran_i N365 Moran's I index
morph_geary_c NPT7 Geary's C measure
loc_peak_loc VJGA Local intensity peak
loc_peak_glob 0F91 Global intensity peak
stat_mean Q4LE Mean
stat_var ECT3 Variance
stat_skew KE2A Skewness
stat_kurt IPH6 (Excess) kurtosis
stat_median Y12H Median
stat_min 1GSF Minimum
stat_p10 QG58 10th percentile
stat_p90 8DWT 90th percentile
stat_max 84IY Maximum
stat_iqr SALO Interquartile range
stat_range 2OJQ Range
stat_mad 4FUA Mean absolute deviation
stat_rmad 1128 Robust mean absolute deviation
stat_medad N72L Median absolute deviation
stat_cov 7TET Coefficient of variation
stat_qcod 9S40 Quartile coefficient of dispersion
stat_energy N8CA Energy
stat_rms 5ZWQ Root mean square
ih_mean X6K6 Mean
ih_var CH89 Variance
ih_skew 88K1 Skewness
ih_kurt C3I7 (Excess) kurtosis
ih_median WIFQ Median
ih_min 1PR8 Minimum
ih_p10 GPMT 10th percentile
ih_p90 OZ0C 90th percentile
ih_max 3NCY Maximum
ih_mode AMMC Mode
ih_iqr WR0O Interquartile range
ih_range 5Z3W Range
ih_mad D2ZX Mean absolute deviation
ih_rmad WRZB Robust mean absolute deviation
ih_medad 4RNL Median absolute deviation
ih_cov CWYJ Coefficient of variation
ih_qcod SLWD Quartile coefficient of dispersion
ih_entropy TLU2 Entropy
ih_uniformity BJ5W Uniformity
ih_max_grad 12CE Maximum histogram gradient
ih_max_grad_g 8E6O Maximum histogram gradient grey level
ih_min_grad VQB3 Minimum histogram gradient
ih_min_grad_g RHQZ Minimum histogram gradient grey level
ivh_v10 BC2M Volume fraction at 10 % intensity
ivh_v90 BC2M Volume fraction at 90 % intensity
ivh_i10 GBPN Intensity at 10 % volume
ivh_i90 GBPN Intensity at 90 % volume
ivh_diff_v10_v90 DDTU Volume fraction difference between 10 % and 90 % intensity
ivh_diff_i10_i90 CNV2 Intensity difference between 10 % and 90 % volume
ivh_auc 9CMM Area under the curve
cm_joint_max GYBY Joint maximum
cm_joint_avg 60VM Joint average
cm_joint_var UR99 Joint variance
cm_joint_entr TU9B Joint entropy
cm_diff_avg TF7R Difference average
cm_diff_var D3YU Difference variance
cm_diff_entr NTRS Difference entropy
cm_sum_avg ZGXS Sum average
cm_sum_var OEEB Sum variance
cm_sum_entr P6QZ Sum entropy
cm_energy 8ZQL Angular second moment
cm_contrast ACUI Contrast
cm_dissimilarity 8S9J Dissimilarity
cm_inv_diff IB1Z Inverse difference
cm_inv_diff_norm NDRX Normalised inverse difference
cm_inv_diff_mom WF0Z Inverse difference moment
cm_inv_diff_mom_norm 1QCO Normalised inverse difference moment
cm_inv_var E8JP Inverse variance
cm_corr NI2N Correlation
cm_auto_corr QWB0 Autocorrelation
cm_clust_tend DG8W Cluster tendency
cm_clust_shade 7NFM Cluster shade
cm_clust_prom AE86 Cluster prominence
cm_info_corr1 R8DG First measure of information correlation
cm_info_corr2 JN9H Second measure of information correlation
rlm_sre 22OV Short runs emphasis
rlm_lre W4KF Long runs emphasis
rlm_lgre V3SW Low grey level run emphasis
rlm_hgre G3QZ High grey level run emphasis
rlm_srlge HTZT Short run low grey level emphasis
rlm_srhge GD3A Short run high grey level emphasis
rlm_lrlge IVPO Long run low grey level emphasis
rlm_lrhge 3KUM Long run high grey level emphasis
rlm_glnu R5YN Grey level non-uniformity
rlm_glnu_norm OVBL Normalised grey level non-uniformity
rlm_rlnu W92Y Run length non-uniformity
rlm_rlnu_norm IC23 Normalised run length non-uniformity
rlm_r_perc 9ZK5 Run percentage
rlm_gl_var 8CE5 Grey level variance
rlm_rl_var SXLW Run length variance
rlm_rl_entr HJ9O Run entropy
szm_sze 5QRC Small zone emphasis
szm_lze 48P8 Large zone emphasis
szm_lgze XMSY Low grey level zone emphasis
szm_hgze 5GN9 High grey level zone emphasis
szm_szlge 5RAI Small zone low grey level emphasis
szm_szhge HW1V Small zone high grey level emphasis
szm_lzlge YH51 Large zone low grey level emphasis
szm_lzhge J17V Large zone high grey level emphasis
szm_glnu JNSA Grey level non-uniformity
szm_glnu_norm Y1RO Normalised grey level non-uniformity
szm_zsnu 4JP3 Zone size non-uniformity
szm_zsnu_norm VB3A Normalised zone size non-uniformity
szm_z_perc P30P Zone percentage
szm_gl_var BYLV Grey level variance
szm_zs_var 3NSA Zone size variance
szm_zs_entr GU8N Zone size entropy
dzm_sde 0GBI Small distance emphasis
dzm_lde MB4I Large distance emphasis
dzm_lgze S1RA Low grey level zone emphasis
dzm_hgze K26C High grey level zone emphasis
dzm_sdlge RUVG Small distance low grey level emphasis
dzm_sdhge DKNJ Small distance high grey level emphasis
dzm_ldlge A7WM Large distance low grey level emphasis
dzm_ldhge KLTH Large distance high grey level emphasis
dzm_glnu VFT7 Grey level non-uniformity
dzm_glnu_norm 7HP3 Normalised grey level non-uniformity
dzm_zdnu V294 Zone distance non-uniformity
dzm_zdnu_norm IATH Normalised zone distance non-uniformity
dzm_z_perc VIWW Zone percentage
dzm_gl_var QK93 Grey level variance
dzm_zd_var 7WT1 Zone distance variance
dzm_zd_entr GBDU Zone distance entropy
ngt_coarseness QCDE Coarseness
ngt_contrast 65HE Contrast
ngt_busyness NQ30 Busyness
ngt_complexity HDEZ Complexity
ngt_strength 1X9X Strength
ngl_lde SODN Low dependence emphasis
ngl_hde IMOQ High dependence emphasis
ngl_lgce TL9H Low grey level count emphasis
ngl_hgce OAE7 High grey level count emphasis
ngl_ldlge EQ3F Low dependence low grey level emphasis
ngl_ldhge JA6D Low dependence high grey level emphasis
ngl_hdlge NBZI High dependence low grey level emphasis
ngl_hdhge 9QMG High dependence high grey level emphasis
ngl_glnu FP8K Grey level non-uniformity
ngl_glnu_norm 5SPA Normalised grey level non-uniformity
ngl_dcnu Z87G Dependence count non-uniformity
ngl_dcnu_norm OKJI Normalised dependence count non-uniformity
ngl_dc_perc 6XV8 Dependence count percentage
ngl_gl_var 1PFV Grey level variance
ngl_dc_var DNX2 Dependence count variance
ngl_dc_entr FCBV Dependence count entropy
ngl_dc_energy CAS9 Dependence count energy
"""


def _read(table: str) -> dict[str, tuple[str, str]]:
    rows = (line.split(" ", 2) for line in table.strip().splitlines())
    return {tag: (code, title) for tag, code, title in rows}


FEATURES = _read(_TABLE)
"""IBSI code and name of each feature, by its tag without the aggregation."""


def feature_name(tag: str) -> FeatureName:
    """Return the name of a tag.

    Raises:
        KeyError: There is no such feature.

    Example:
        >>> name = feature_name("cm_contrast_2_5D_avg")
        >>> name.code, name.title, name.aggregation
        ('ACUI', 'Contrast', '2_5D_avg')
    """
    for end in ("", *AGGREGATIONS):
        base = tag.removesuffix(f"_{end}") if end else tag
        if base in FEATURES and (base != tag or not end):
            code, title = FEATURES[base]
            return FeatureName(tag, code, title, base.split("_", 1)[0], end)
    raise KeyError(tag)
